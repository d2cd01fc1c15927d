-- The register: what operators have put down by hand (reputation/entries.py), as a hash of id -> JSON. Four more keys go
-- with it: when entries end, a log of all changes, the version, which every change makes a new one, and at which version
-- each entry was put down.
--
-- A version is the time of its change in microseconds, or the last version and one where that is more. So when a fail-over
-- loses a change, its version is never given to another one, and whoever has seen it is found out. Versions are the ids of
-- the log, which is read by people (the audit), and by processes that want to know what has changed since.
--
-- KEYS   entries, expiry, log, version, order; of one slot

local LOG_LENGTH = 10000
local SWEPT_AT_ONCE = 100
local PORTION = 500
local ALL, MORE, ANEW = 0, 1, 2

local function changed(keys, now, channel, id, line)
  local version = math.max(tonumber(redis.call('GET', keys[4]) or 0) + 1, now)
  local name = integer(version)
  redis.call('SET', keys[4], name)
  redis.call('XADD', keys[3], 'MAXLEN', '~', LOG_LENGTH, name .. '-0', 'at', integer(now), 'id', id, 'line', line)
  redis.pcall('PUBLISH', channel, name) -- who may not is heard of later, when the others look
  return version
end

local function take_out(keys, id)
  redis.call('ZREM', keys[2], id)
  redis.call('ZREM', keys[5], id)
  return redis.call('HDEL', keys[1], id)
end

-- Take out what has expired.
local function sweep(keys, now, channel)
  local ids = redis.call('ZRANGEBYSCORE', keys[2], '-inf', integer(now), 'LIMIT', 0, SWEPT_AT_ONCE)
  for _, id in ipairs(ids) do
    local entry = string.sub(id, 1, 6) ~= 'token|' and redis.call('HGET', keys[1], id) -- the audit has no digest
    take_out(keys, id)
    changed(keys, now, channel, id, cjson.encode { what = 'expired', id = id, entry = entry or '' })
  end
end

-- ARGV   now in microseconds or '', channel, most entries, id, JSON of the entry, expiry in microseconds or '', audit line
-- reply  the new version; -1 when there is no room
local function enter(keys, args)
  local now, channel, id = tonumber(args[1]) or server_now(), args[2], args[4]
  sweep(keys, now, channel)
  if redis.call('HEXISTS', keys[1], id) == 0 and redis.call('HLEN', keys[1]) >= tonumber(args[3]) then
    return -1
  end
  take_out(keys, id)
  redis.call('HSET', keys[1], id, args[5])
  if args[6] ~= '' then
    redis.call('ZADD', keys[2], args[6], id)
  end
  local version = changed(keys, now, channel, id, args[7])
  redis.call('ZADD', keys[5], integer(version), id)
  return version
end

-- ARGV   now in microseconds or '', channel, id, audit line
-- reply  the new version; 0 when there is no such entry
local function strike(keys, args)
  local now, id = tonumber(args[1]) or server_now(), args[3]
  if take_out(keys, id) == 0 then
    return 0
  end
  return changed(keys, now, args[2], id, args[4])
end

-- ARGV   now in microseconds or '', channel, id of what is no entry, audit line
-- reply  the new version
local function remark(keys, args)
  return changed(keys, tonumber(args[1]) or server_now(), args[2], args[3], args[4])
end

-- ARGV   now in microseconds or '', channel, the version that the caller has, 0 for none
-- reply  now, the version that the caller has after this, status; then id and JSON of each entry that has changed since, ''
--        for what was struck. Status: ALL; MORE is to be asked for; ANEW, what has changed since cannot be told
local function entries(keys, args)
  local now, known = tonumber(args[1]) or server_now(), tonumber(args[3])
  sweep(keys, now, args[2])
  local version = tonumber(redis.call('GET', keys[4]) or 0)
  if known == version then
    return { now, version, ALL }
  end
  local rows = redis.call('XRANGE', keys[3], integer(known) .. '-0', '+', 'COUNT', PORTION + 1)
  if not rows[1] or rows[1][1] ~= integer(known) .. '-0' then
    return { now, version, ANEW }
  end
  local told = tonumber(string.match(rows[#rows][1], '^%d+'))
  local reply, seen = { now, told, told == version and ALL or MORE }, {}
  for position = 2, #rows do
    local id = rows[position][2][4]
    if not seen[id] then
      seen[id] = true
      reply[#reply + 1] = id
      reply[#reply + 1] = redis.call('HGET', keys[1], id) or ''
    end
  end
  return reply
end

-- ARGV   the version after which the page begins, 0 for the first
-- reply  the version that it ends at; then id and JSON of each entry, none when there is no more
local function page(keys, args)
  local rows = redis.call('ZRANGEBYSCORE', keys[5], '(' .. args[1], '+inf', 'WITHSCORES', 'LIMIT', 0, PORTION)
  local reply = { tonumber(rows[#rows] or args[1]) }
  for position = 1, #rows, 2 do
    reply[#reply + 1] = rows[position]
    reply[#reply + 1] = redis.call('HGET', keys[1], rows[position]) or ''
  end
  return reply
end

-- ARGV   how many lines
-- reply  time in microseconds and audit line, the latest first
local function audit(keys, args)
  local reply = {}
  for _, row in ipairs(redis.call('XREVRANGE', keys[3], '+', '-', 'COUNT', args[1])) do
    reply[#reply + 1] = row[2][2]
    reply[#reply + 1] = row[2][6]
  end
  return reply
end
