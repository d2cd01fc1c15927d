-- Evidence: decayed sums, as a MessagePack array { time, sum, sum, ... }. The first half fades by the short half-life, the second by
-- the long one, up to that time: reputation/score.py. Numbers: EVIDENCE_SIZE sums in thousandths, as of now.

local EVIDENCE_SIZE = 18 -- nine kinds over two horizons
local LONGEST_SECONDS = 180 * 86400
local SHORT_HALF_LIFE = 86400 * 1000000
local LONG_HALF_LIFE = 30 * SHORT_HALF_LIFE

local function evidence_of(key, now)
  local raw = redis.call('GET', key)
  local state = raw and cmsgpack.unpack(raw) or { now }
  local age = math.max(0, now - state[1])
  local short, long = 0.5 ^ (age / SHORT_HALF_LIFE), 0.5 ^ (age / LONG_HALF_LIFE)
  for i = 1, EVIDENCE_SIZE do
    state[i + 1] = (state[i + 1] or 0) * (i <= EVIDENCE_SIZE / 2 and short or long)
  end
  state[1] = math.max(now, state[1])
  return state
end

-- Until less than half an outcome is left: reputation/score.py.
local function kept_seconds(state)
  local largest = 1
  for i = EVIDENCE_SIZE / 2 + 2, EVIDENCE_SIZE + 1 do
    largest = math.max(largest, state[i])
  end
  return math.ceil(math.min(LONGEST_SECONDS, LONG_HALF_LIFE / 1000000 * (1 + math.log(largest) / math.log(2))))
end

kinds.e = {
  extra = EVIDENCE_SIZE,
  read = function(seen, now, reply, slot)
    seen.state = evidence_of(seen.key, now)
    for i = 1, EVIDENCE_SIZE do
      reply[slot + i - 1] = math.floor(seen.state[i + 1] * 1000 + 0.5)
    end
  end,
  charge = function(seen, _, _, reply, slot)
    if seen.amount ~= '' then
      local position, weight = string.match(seen.amount, '^(%d+):(%d+)$')
      for _, i in ipairs { tonumber(position), tonumber(position) + EVIDENCE_SIZE / 2 } do
        seen.state[i + 2] = seen.state[i + 2] + tonumber(weight) / 1000
        reply[slot + i] = math.floor(seen.state[i + 2] * 1000 + 0.5)
      end
      redis.call('SET', seen.key, cmsgpack.pack(seen.state), 'EX', kept_seconds(seen.state))
    end
  end,
  refund = function()
    return 0
  end,
}
