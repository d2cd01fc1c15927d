-- Series, sketches, leaderboards, live processes: what is asked and told off the decision path.

local HOUR_US = 3600 * 1000000
local SKETCH_SECONDS = 26 * 3600
local BOARD_SIZE = 1000
local BOARD_SECONDS = 49 * 3600

local function state_at(key, now)
  local raw = redis.call('GET', key)
  if not raw then
    return {}, NOTHING, now
  end
  local state, layout, time = decoded(raw)
  return state, layout, advance(state, layout, time, now)
end

-- KEYS   counters of one entity, all of rings
-- ARGV   now in microseconds or ''
-- reply  per key: { { scope:window:buckets, youngest bucket, cells oldest first ... }, ... } of the windows that hold something
local function series(keys, args)
  local now, reply = tonumber(args[1]) or server_now(), {}
  for k, key in ipairs(keys) do
    reply[k] = {}
    local state, layout, time = state_at(key, now)
    for _, ring in ipairs(layout) do
      if state[ring.total] > 0 then
        local last = math.floor(time / ring.width)
        local row = { ring.name, last }
        for bucket = last - ring.size + 1, last do
          row[#row + 1] = state[ring.first + bucket % ring.size]
        end
        reply[k][#reply[k] + 1] = row
      end
    end
  end
  return reply
end

-- KEYS   counters of rings, on a cluster of one slot
-- ARGV   now in microseconds or '', the name of a ring (scope:window:buckets)
-- reply  what each has in that ring now
local function counts(keys, args)
  local now, reply = tonumber(args[1]) or server_now(), {}
  for k, key in ipairs(keys) do
    local state, layout = state_at(key, now)
    local ring = layout.named[args[2]]
    reply[k] = ring and state[ring.total] or 0
  end
  return reply
end

-- A sketch is a HyperLogLog an hour, under KEY:hour.
local function hour_key(key, hour)
  return key .. ':' .. integer(hour)
end

-- KEYS   a sketch
-- ARGV   now in microseconds or '', members ...
-- reply  1 when the estimate has changed
local function saw(keys, args)
  local key = hour_key(keys[1], math.floor((tonumber(args[1]) or server_now()) / HOUR_US))
  local changed = redis.call('PFADD', key, unpack(args, 2))
  redis.call('EXPIRE', key, SKETCH_SECONDS, 'NX')
  return changed
end

-- KEYS   sketches, on a cluster of one slot
-- ARGV   now in microseconds or ''
-- reply  per key: { members of the last hour or two, members of the last day }
local function sketches(keys, args)
  local hour, reply = math.floor((tonumber(args[1]) or server_now()) / HOUR_US), {}
  for k, key in ipairs(keys) do
    local hours = {}
    for back = 0, 24 do
      hours[back + 1] = hour_key(key, hour - back)
    end
    reply[k] = { redis.call('PFCOUNT', hours[1], hours[2]), redis.call('PFCOUNT', unpack(hours)) }
  end
  return reply
end

-- The leaderboard of a stretch of time: KEY:number.
local function board_key(key, at, stretch_us)
  return key .. ':' .. integer(math.floor(at / stretch_us))
end

-- KEYS   a leaderboard
-- ARGV   now in microseconds or '', how long a stretch is in microseconds, then id and count of each candidate
-- reply  how many are on the board now; each stands there with the most that it had
local function offer(keys, args)
  local key = board_key(keys[1], tonumber(args[1]) or server_now(), tonumber(args[2]))
  for i = 3, #args, 2 do
    redis.call('ZADD', key, 'GT', args[i + 1], args[i])
  end
  redis.call('ZREMRANGEBYRANK', key, 0, -BOARD_SIZE - 1)
  redis.call('EXPIRE', key, BOARD_SECONDS)
  return redis.call('ZCARD', key)
end

-- KEYS   a leaderboard
-- ARGV   the moment in microseconds or '' for now, how long a stretch is, how many are wanted
-- reply  id and count, the most first: of the moment's stretch, and for now of the one before, too
local function board(keys, args)
  local at, stretch = tonumber(args[1]), tonumber(args[2])
  local now, reply, seen = at or server_now(), {}, {}
  for back = 0, at and 0 or 1 do
    local key = board_key(keys[1], now - back * stretch, stretch)
    local rows = redis.call('ZREVRANGE', key, 0, args[3] - 1, 'WITHSCORES')
    for i = 1, #rows, 2 do
      if not seen[rows[i]] then
        seen[rows[i]] = true
        reply[#reply + 1] = rows[i]
        reply[#reply + 1] = tonumber(rows[i + 1])
      end
    end
  end
  return reply
end

-- KEYS   the list of live processes
-- ARGV   now in microseconds or '', id of the caller, how long it counts as live in microseconds (0: it ends)
-- reply  how many are live
local function beat(keys, args)
  local now, life = tonumber(args[1]) or server_now(), tonumber(args[3])
  redis.call('ZADD', keys[1], integer(now + life), args[2])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', integer(now))
  if life > 0 then
    redis.call('PEXPIRE', keys[1], math.ceil(life / 1000), 'NX')
    redis.call('PEXPIRE', keys[1], math.ceil(life / 1000), 'GT') -- others may live longer
  end
  return redis.call('ZCARD', keys[1])
end
