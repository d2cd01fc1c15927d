-- Seen: when a key was first and last seen, in microseconds, as two doubles of 8 bytes each. Neither time goes back. A
-- plan has one meter with one window: what was last seen longer ago than that is unknown, and is first seen when it comes
-- again. It is never over, and neither amount nor token matters.
-- Numbers: 1 or 0 for known or not, no wait, then when it was first and last seen before this decision, 0 and 0 for never.

local TIMES = '<dd'

kinds.s = {
  extra = 2,
  read = function(seen, now, reply, slot)
    local raw, first, last = redis.call('GET', seen.key), 0, 0
    if raw then
      first, last = struct.unpack(TIMES, raw)
    end
    if last <= now - seen.plan[1][1].window_us then
      first, last = 0, 0
    end
    seen.first, seen.last = first, last
    reply[slot], reply[slot + 2], reply[slot + 3] = last > 0 and 1 or 0, first, last
  end,
  charge = function(seen, allowed, now)
    if is_due(seen.plan[1], false, allowed) then
      local first = seen.first > 0 and seen.first or now
      local times = struct.pack(TIMES, first, math.max(seen.last, now))
      redis.call('SET', seen.key, times, 'PX', seen.plan.longest * 1100)
    end
  end,
  -- What became known by just this charge is forgotten, unless it came again since: then it is known from that time on. For
  -- what was known before, the last time is not put back: it is then that of a message which came to nothing, and does no
  -- harm.
  refund = function(key, _, _, charged_at)
    local raw = redis.call('GET', key)
    if not raw then
      return 0
    end
    local first, last = struct.unpack(TIMES, raw)
    if first ~= charged_at then
      return 0
    end
    if last > first then
      redis.call('SET', key, struct.pack(TIMES, last, last), 'KEEPTTL')
      return 1
    end
    return redis.call('DEL', key)
  end,
}
