-- Distinct: a sorted set of members by the time they were last seen, exact up to the limit of its rule.
-- A member that is in the window already costs nothing.
-- Numbers: count and wait per window, then the time the member was last seen before, 0 for never.

local function first_above(key, since, skipped)
  return tonumber(redis.call('ZRANGEBYSCORE', key, '(' .. integer(since), '+inf', 'WITHSCORES', 'LIMIT', skipped, 1)[2])
end

kinds.d = {
  extra = 1,
  read = function(seen, now, reply, slot)
    local key = seen.key
    local prior = tonumber(redis.call('ZSCORE', key, seen.amount) or 0)
    seen.prior = prior
    for m, meter in ipairs(seen.plan) do
      local over = false
      for _, ring in ipairs(meter) do
        local since = now - ring.window_us
        local count, wait = redis.call('ZCOUNT', key, '(' .. integer(since), '+inf'), 0
        if ring.limit > 0 and prior <= since and count + 1 > ring.limit then
          wait = math.max(1, first_above(key, since, count - ring.limit) + ring.window_us - now)
          over = true
        end
        reply[slot], reply[slot + 1] = count, wait
        slot = slot + 2
      end
      note(seen, m, over)
    end
    reply[slot] = prior
  end,
  charge = function(seen, allowed, now, reply, slot)
    local key, plan = seen.key, seen.plan
    for m, meter in ipairs(plan) do
      local due, cap = is_due(meter, seen.over[m], allowed), 0
      for _, ring in ipairs(meter) do
        cap = math.max(cap, ring.limit)
        if due and seen.prior <= now - ring.window_us then
          reply[slot] = reply[slot] + 1
        end
        slot = slot + 2
      end
      if due then
        redis.call('ZREMRANGEBYSCORE', key, '-inf', integer(now - plan.longest * 1000000))
        redis.call('ZADD', key, 'GT', integer(now), seen.amount)
        -- As many of the newest as the limit allows say whether it is reached, and until when.
        redis.call('ZREMRANGEBYRANK', key, 0, -cap - 1)
        redis.call('PEXPIRE', key, plan.longest * 1100)
      end
    end
  end,
  refund = function(key, _, amount, charged_at, prior)
    if tonumber(redis.call('ZSCORE', key, amount) or -1) ~= charged_at then
      return 0
    end
    if prior > 0 then
      return redis.call('ZADD', key, 'CH', integer(prior), amount)
    end
    return redis.call('ZREM', key, amount)
  end,
}

-- Leases: a sorted set of members by the time their lease ends. Holding one costs one; the window of the meter is how
-- long it lasts. Numbers: count and wait of each meter. There is one meter: each rule has a key of its own.

kinds.c = {
  read = function(seen, now, reply, slot)
    local key = seen.key
    redis.call('ZREMRANGEBYSCORE', key, '-inf', integer(now))
    local held = redis.call('ZSCORE', key, seen.amount)
    local count = redis.call('ZCARD', key)
    for m, meter in ipairs(seen.plan) do
      local ring, wait = meter[1], 0
      if ring.limit > 0 and not held and count + 1 > ring.limit then
        local first = redis.call('ZRANGE', key, count - ring.limit, count - ring.limit, 'WITHSCORES')
        wait = math.max(1, tonumber(first[2]) - now)
      end
      note(seen, m, wait > 0)
      reply[slot], reply[slot + 1] = count, wait
      slot = slot + 2
    end
    seen.repeated = held and true or false
  end,
  charge = function(seen, allowed, now, reply, slot)
    for m, meter in ipairs(seen.plan) do
      local cap = meter[1].limit
      if is_due(meter, seen.over[m], allowed) then
        -- What only notes lets everybody in; twice the limit is as much as is remembered.
        if cap > 0 and reply[slot] >= 2 * cap then
          seen.repeated = true
        end
        if not seen.repeated then
          reply[slot] = reply[slot] + 1
          redis.call('ZADD', seen.key, integer(now + meter[1].window_us), seen.amount)
        end
        redis.call('PEXPIRE', seen.key, seen.plan.longest * 1100)
      end
      slot = slot + 2
    end
  end,
  refund = function(key, _, amount)
    return redis.call('ZREM', key, amount)
  end,
}

-- KEYS   one key of leases
-- ARGV   now in microseconds or '', how long they last in microseconds, members ...
-- reply  how many of them were still held; one that has ended is not taken again
local function renew(keys, args)
  local now = tonumber(args[1]) or server_now()
  local ends, held = integer(now + tonumber(args[2])), 0
  for i = 3, #args do
    if tonumber(redis.call('ZSCORE', keys[1], args[i]) or 0) > now then
      redis.call('ZADD', keys[1], ends, args[i])
      held = held + 1
    end
  end
  redis.call('PEXPIRE', keys[1], math.ceil(tonumber(args[2]) * 1.1 / 1000))
  return held
end
