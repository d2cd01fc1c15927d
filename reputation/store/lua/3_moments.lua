-- Moments: when the units of one rule came, for limits that are interpolated. reputation/moments.py explains the
-- arithmetic and is the reference for it. There is one meter: each rule has a key of its own.
--
-- A key holds a MessagePack array: tokens as those of rings, the time of the last charge in microseconds, then of each
-- stretch, oldest first, the microseconds from the end of the one before to its first unit, those from there to its last
-- unit, and how many units it has.

local MAX_STRETCHES = 512

-- What is kept under a key: first, last, count of its n stretches as arrays, the latest time, tokens.
local function moments_of(key)
  local kept, raw = { first = {}, last = {}, count = {}, n = 0, latest = 0, tokens = '' }, redis.call('GET', key)
  if raw then
    local packed, first, last, count, n, at = cmsgpack.unpack(raw), kept.first, kept.last, kept.count, 0, 0
    for i = 3, #packed, 3 do
      n = n + 1
      first[n] = at + packed[i]
      at = first[n] + packed[i + 1]
      last[n], count[n] = at, packed[i + 2]
    end
    kept.n, kept.tokens, kept.latest = n, packed[1], packed[2]
  end
  return kept
end

local function moments_packed(kept)
  local packed, at, slot, first, last = { kept.tokens, kept.latest }, 0, 3, kept.first, kept.last
  for i = 1, kept.n do
    packed[slot], packed[slot + 1], packed[slot + 2] = first[i] - at, last[i] - first[i], kept.count[i]
    at, slot = last[i], slot + 3
  end
  return cmsgpack.pack(packed)
end

-- Take some stretches out, from a position on.
local function take_stretches(kept, at, how_many)
  local n = kept.n - how_many
  for i = at, n do
    local other = i + how_many
    kept.first[i], kept.last[i], kept.count[i] = kept.first[other], kept.last[other], kept.count[other]
  end
  kept.n = n
end

-- Forget what has left the longest window.
local function forget_moments(kept, longest)
  local old, since = 0, kept.latest - longest * 1000000
  while old < kept.n and kept.last[old + 1] <= since do
    old = old + 1
  end
  if old > 0 then
    take_stretches(kept, 1, old)
  end
end

-- The units that are younger than `since`, the oldest stretch that has any, and how many of that one have left.
local function units_since(kept, since)
  local first, last, count, total, gone, oldest = kept.first, kept.last, kept.count, 0, 0, kept.n + 1
  for i = kept.n, 1, -1 do
    if last[i] <= since then
      break
    end
    if first[i] <= since then
      gone = math.floor((since - first[i]) / (last[i] - first[i]) * (count[i] - 1)) + 1
    end
    total, oldest = total + count[i], i
  end
  return total - gone, oldest, gone
end

-- Microseconds until so many units too many have left a window.
local function wait_for_moments(kept, window_us, excess, oldest, gone, now)
  local first, last, count, leaves = kept.first, kept.last, kept.count, math.max(now, kept.latest)
  for i = oldest, kept.n do
    local inside = count[i] - gone
    local index = gone + math.min(excess, inside) - 1
    leaves = count[i] == 1 and last[i] or first[i] + math.ceil(index / (count[i] - 1) * (last[i] - first[i]))
    excess, gone = excess - inside, 0
    if excess <= 0 then
      break
    end
  end
  return leaves + window_us - now
end

-- Make one of the two neighbours that are the shortest together; of equal ones, the oldest.
local function merge_shortest(kept)
  local first, last, count = kept.first, kept.last, kept.count
  local at, shortest = 1, last[2] - first[1]
  for i = 2, kept.n - 1 do
    local length = last[i + 1] - first[i]
    if length < shortest then
      at, shortest = i, length
    end
  end
  last[at], count[at] = last[at + 1], count[at] + count[at + 1]
  take_stretches(kept, at + 1, 1)
end

local function add_moments(kept, cost, now, longest)
  kept.latest = math.max(now, kept.latest)
  forget_moments(kept, longest)
  local n, time = kept.n, kept.latest
  if n > 0 and ((kept.count[n] == 1 and cost == 1) or (kept.first[n] == kept.last[n] and kept.last[n] == time)) then
    kept.last[n], kept.count[n] = time, kept.count[n] + cost
  else
    n = n + 1
    kept.first[n], kept.last[n], kept.count[n], kept.n = time, time, cost, n
  end
  if n > MAX_STRETCHES then
    merge_shortest(kept)
  end
end

kinds.m = {
  read = function(seen, now, reply, slot)
    local kept = moments_of(seen.key)
    seen.state, seen.cost = kept, tonumber(seen.amount)
    seen.repeated = seen.token ~= '' and is_known(kept.tokens, seen.token) and true or false
    for m, meter in ipairs(seen.plan) do
      local over, time = false, math.max(now, kept.latest)
      for _, ring in ipairs(meter) do
        local total, oldest, gone = units_since(kept, time - ring.window_us)
        local excess = total + seen.cost - ring.limit
        reply[slot] = total
        if ring.limit > 0 and excess > 0 and not seen.repeated then
          reply[slot + 1] = wait_for_moments(kept, ring.window_us, excess, oldest, gone, now)
          over = true
        end
        slot = slot + 2
      end
      note(seen, m, over)
    end
  end,
  charge = function(seen, allowed, now, reply, slot)
    local kept, plan, cost = seen.state, seen.plan, seen.cost
    if cost == 0 or seen.repeated or not is_due(plan[1], seen.over[1], allowed) then
      return
    end
    add_moments(kept, cost, now, plan.longest)
    if allowed and seen.token ~= '' then
      kept.tokens = string.sub(kept.tokens .. seen.token, -MAX_TOKENS * TOKEN_BYTES)
    end
    redis.call('SET', seen.key, moments_packed(kept), 'PX', plan.longest * 1100)
    for _ = 1, #plan[1] do
      reply[slot] = reply[slot] + cost
      slot = slot + 2
    end
  end,
  refund = function(key, plan, amount, charged_at, _, token)
    local kept = moments_of(key)
    local first, last, count = kept.first, kept.last, kept.count
    forget_moments(kept, plan.longest)
    local at, refunded = kept.n, 0
    while at > 0 and first[at] > charged_at do
      at = at - 1
    end
    if at > 0 then
      refunded = math.min(tonumber(amount), (count[at] == 2 and first[at] < last[at]) and 1 or count[at])
      count[at] = count[at] - refunded
      if count[at] == 0 then
        take_stretches(kept, at, 1)
      elseif count[at] == 1 then -- of two it is the other one
        local moment = charged_at >= last[at] and first[at] or last[at]
        first[at], last[at] = moment, moment
      end
    end
    kept.tokens = without(kept.tokens, token)
    if kept.n > 0 then
      redis.call('SET', key, moments_packed(kept), 'KEEPTTL')
    else
      redis.call('DEL', key)
    end
    return refunded
  end,
}
