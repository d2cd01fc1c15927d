-- Series, sketches, leaderboards, live processes: what is asked and told off the decision path. The keys of stretches of
-- time are named by the caller, after asking for `now`: a cluster must know them to move them.

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

-- KEYS   the sketch of an hour, a HyperLogLog
-- ARGV   members ...
-- reply  1 when the estimate has changed
local function saw(keys, args)
  local changed = redis.call('PFADD', keys[1], unpack(args))
  redis.call('EXPIRE', keys[1], SKETCH_SECONDS, 'NX')
  return changed
end

-- KEYS   the sketches of the last 25 hours, latest first
-- reply  { members of the last hour or two, members of the last day }
local function sketch(keys)
  return { redis.call('PFCOUNT', keys[1], keys[2]), redis.call('PFCOUNT', unpack(keys)) }
end

-- KEYS   the leaderboard of a stretch of time
-- ARGV   id and count of each candidate
-- reply  how many are on the board now; each stands there with the most that it had
local function offer(keys, args)
  for i = 1, #args, 2 do
    redis.call('ZADD', keys[1], 'GT', args[i + 1], args[i])
  end
  redis.call('ZREMRANGEBYRANK', keys[1], 0, -BOARD_SIZE - 1)
  redis.call('EXPIRE', keys[1], BOARD_SECONDS)
  return redis.call('ZCARD', keys[1])
end

-- KEYS   the leaderboard of a stretch of time
-- ARGV   how many are wanted
-- reply  id and count, the most first
local function board(keys, args)
  return tonumber(args[1]) > 0 and redis.call('ZREVRANGE', keys[1], 0, args[1] - 1, 'WITHSCORES') or {}
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

-- KEYS   the live stream
-- ARGV   most lines, how long it is kept in seconds, texts ...
-- reply  how many lines it has now
local function publish(keys, args)
  for i = 3, #args do
    redis.call('XADD', keys[1], 'MAXLEN', '~', args[1], '*', 'v', args[i])
  end
  redis.call('EXPIRE', keys[1], args[2])
  return redis.call('XLEN', keys[1])
end

-- KEYS   any, to say which server is asked
-- reply  the server's clock in microseconds
local function now()
  return server_now()
end
