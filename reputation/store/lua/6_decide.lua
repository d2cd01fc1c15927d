-- What `decide` knows of each key while it runs, used again by the next call: it is never interrupted.
local desk = {}

local ZEROS = {}

-- A table of so many zeros that does not have to grow.
local function zeros(size)
  for i = #ZEROS + 1, size do
    ZEROS[i] = 0
  end
  return { unpack(ZEROS, 1, size) }
end

-- KEYS   counters, all different; on a cluster of one slot
-- ARGV   now in microseconds or '' for the server's clock, a token of what must not be charged twice or '',
--        then plan and amount of each key
-- reply  { allowed 0|1, now, a bit for each key (the first is 1) that is not charged because it was before,
--          then the numbers of each key }
-- Atomic: all keys are read before any is charged; a refusal charges only the `always` meters.
local function decide(keys, args)
  local now, token, size, allowed = tonumber(args[1]) or server_now(), args[2], 3, true
  for k = 1, #keys do
    local one = desk[k]
    if not one then
      one = { over = {} }
      desk[k] = one
    end
    one.key, one.plan, one.amount = keys[k], plan_of(args[2 * k + 1]), args[2 * k + 2]
    one.token, one.denies, one.repeated = token, false, false
    size = size + one.plan.size
  end
  local reply, slot, repeated = zeros(size), 4, 0
  for k = 1, #keys do
    local one = desk[k]
    kinds[one.plan.kind].read(one, now, reply, slot)
    allowed = allowed and not one.denies
    slot = slot + one.plan.size
  end
  slot = 4
  for k = 1, #keys do
    local one = desk[k]
    kinds[one.plan.kind].charge(one, allowed, now, reply, slot)
    slot = slot + one.plan.size
    repeated = repeated + (one.repeated and 2 ^ (k - 1) or 0)
  end
  reply[1], reply[2], reply[3] = allowed and 1 or 0, now, repeated
  return reply
end

-- KEYS   counters
-- ARGV   per key: the time that `decide` answered, plan, amount, the time a member was seen before or 0, token or ''
-- reply  how much was given back
-- Takes at most what the bucket of that time holds; leaves the expiry of rings alone, and nothing where nothing is left.
local function refund(keys, args)
  local refunded = 0
  for k, key in ipairs(keys) do
    local charged_at, plan_text, amount, prior, token = unpack(args, 5 * k - 4, 5 * k)
    local plan = plan_of(plan_text)
    refunded = refunded
      + kinds[plan.kind].refund(key, plan, amount, tonumber(charged_at), tonumber(prior), token)
  end
  return refunded
end
