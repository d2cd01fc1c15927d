#!lua name=reputon_@VERSION@
--
-- The counters of reputon, as one library of Redis Functions (Redis >= 7.0, Valkey >= 8).
-- @VERSION@ is a hash of this file: releases live side by side while a fleet is upgraded.
--
-- One key holds all windows of one metric of one entity, as a MessagePack array:
--
--     { layout, last, total, cell 0, cell 1, ..., last, total, cell 0, ... }
--       layout  "scope:window:buckets;..."   names the rings that follow, in order
--       last    youngest bucket (time / width), never goes back
--       total   sum of the cells
--       cells   buckets + 1 of them; bucket i lives in cell i % (buckets + 1)
--
-- The arithmetic is explained in reputation/windows.py, which is the reference for it. Small counts
-- take one byte a cell, so an entity that was seen once is cheap, and there is no overflow.
--
-- A plan is the text of the meters that a caller puts on a key:
--
--     scope;over;charging;window:buckets:width_us:limit[,window:...][|scope;...]
--       over      d denies  s skips  n notes      (reputation/charges.py)
--       charging  a accepted  + always  - never
--       limit     0 for none
--
-- Plans repeat from call to call, so their parsed form is kept in this library's memory.

local MAX_CACHED = 4096
local plans, layouts, fits, cached = {}, {}, {}, 0

local function remember(cache, key, value)
  cached = cached + 1
  if cached > MAX_CACHED then
    plans, layouts, fits, cached = {}, {}, {}, 0
  else
    cache[key] = value
  end
  return value
end

local function parse_plan(text)
  local plan = {}
  for scope, over, charging, rings in string.gmatch(text .. '|', '([^;|]*);(.);(.);([^|]*)|') do
    local meter = { over = over, charging = charging }
    for window, buckets, width, limit in string.gmatch(rings, '(%d+):(%d+):(%d+):(%d+)') do
      meter[#meter + 1] = {
        name = scope .. ':' .. window .. ':' .. buckets,
        size = tonumber(buckets) + 1,
        width = tonumber(width),
        limit = tonumber(limit),
      }
    end
    plan[#plan + 1] = meter
  end
  return remember(plans, text, plan)
end

-- Where each ring of a layout begins in the array, how long it is, and how long the key is kept.
local function parse_layout(text)
  local layout = { rings = {}, at = {}, longest = 0 }
  local offset = 2
  for scope, window, buckets in string.gmatch(text, '([^;:]*):(%d+):(%d+)') do
    local name = scope .. ':' .. window .. ':' .. buckets
    local size = tonumber(buckets) + 1
    layout.rings[#layout.rings + 1] = { name = name, at = offset, size = size, window = tonumber(window) }
    layout.at[name] = offset
    layout.longest = math.max(layout.longest, tonumber(window))
    offset = offset + 2 + size
  end
  return remember(layouts, text, layout)
end

-- The offsets of a plan's rings in a layout, in the plan's order; false when one is missing.
local function parse_fit(fit_name, plan, layout)
  local offsets = {}
  for _, meter in ipairs(plan) do
    for _, ring in ipairs(meter) do
      local at = layout.at[ring.name]
      if not at then
        return remember(fits, fit_name, false)
      end
      offsets[#offsets + 1] = at
    end
  end
  return remember(fits, fit_name, offsets)
end

local function fit(plan_text, plan, layout_text)
  local fit_name = plan_text .. '\n' .. layout_text
  local offsets = fits[fit_name]
  if offsets == nil then
    offsets = parse_fit(fit_name, plan, layouts[layout_text] or parse_layout(layout_text))
  end
  return offsets
end

-- A state with all rings of the plan. Rings that only others use stay while they hold something.
local function extended(state, plan, now)
  local names, rings, known = {}, {}, {}
  if state then
    local layout = layouts[state[1]] or parse_layout(state[1])
    for _, ring in ipairs(layout.rings) do
      local bucket = math.ceil(ring.window * 1000000 / (ring.size - 1))
      known[ring.name] = ring.at
      if state[ring.at] + ring.size > math.floor(now / bucket) then
        names[#names + 1] = ring.name
        rings[#rings + 1] = { from = ring.at, size = ring.size }
      else
        known[ring.name] = nil
      end
    end
  end
  for _, meter in ipairs(plan) do
    for _, ring in ipairs(meter) do
      if not known[ring.name] then
        known[ring.name] = 0
        names[#names + 1] = ring.name
        rings[#rings + 1] = { size = ring.size, last = math.floor(now / ring.width) }
      end
    end
  end
  local new = { table.concat(names, ';') }
  for _, ring in ipairs(rings) do
    for i = 0, ring.size + 1 do
      new[#new + 1] = ring.from and state[ring.from + i] or (i == 0 and ring.last or 0)
    end
  end
  return new
end

local function state_of(key, plan_text, plan, now)
  local raw = redis.call('GET', key)
  local state = raw and cmsgpack.unpack(raw)
  local offsets = state and fit(plan_text, plan, state[1])
  if not offsets then
    state = extended(state, plan, now)
    offsets = fit(plan_text, plan, state[1])
  end
  return state, offsets
end

local function save(key, state)
  local layout = layouts[state[1]] or parse_layout(state[1])
  redis.call('SET', key, cmsgpack.pack(state), 'PX', layout.longest * 1100)
end

local function advance(state, at, size, width, now)
  local last, index = state[at], math.floor(now / width)
  if index <= last then
    return
  end
  local first = at + 2
  for bucket = math.max(last + 1, index - size + 1), index do
    local cell = first + bucket % size
    state[at + 1] = state[at + 1] - state[cell]
    state[cell] = 0
  end
  state[at] = index
end

-- Microseconds until `cost` fits under `limit`; 0 when it fits now.
local function retry_after(state, at, size, width, cost, limit, now)
  if state[at + 1] + cost <= limit then
    return 0
  end
  local last, left = state[at], state[at + 1]
  local last_filled = last
  for bucket = last - size + 1, last do
    local count = state[at + 2 + bucket % size]
    if count > 0 then
      left = left - count
      last_filled = bucket
      if left + cost <= limit then
        break
      end
    end
  end
  return math.max(1, (last_filled + size) * width - now)
end

local function server_now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Advance and read all meters of one key. Appends count and wait of each ring to `reply`; returns the
-- state of the key with, per meter, whether it is over.
local function read(key, plan_text, cost, now, reply)
  local plan = plans[plan_text] or parse_plan(plan_text)
  local state, offsets = state_of(key, plan_text, plan, now)
  local seen = { key = key, cost = cost, plan = plan, state = state, offsets = offsets, over = {} }
  local position = 0
  for m, meter in ipairs(plan) do
    local over = false
    for _, ring in ipairs(meter) do
      position = position + 1
      local at, wait = offsets[position], 0
      advance(state, at, ring.size, ring.width, now)
      if ring.limit > 0 then
        wait = retry_after(state, at, ring.size, ring.width, cost, ring.limit, now)
        over = over or wait > 0
      end
      reply[#reply + 1] = state[at + 1]
      reply[#reply + 1] = wait
    end
    seen.over[m] = over
    seen.denies = seen.denies or (over and meter.over == 'd')
  end
  return seen
end

-- Charge the meters of one key that are due, and put the new counts into `reply` from `slot` on.
-- Returns the slot of the next key.
local function charge(seen, allowed, reply, slot)
  local position, charged = 0, false
  for m, meter in ipairs(seen.plan) do
    local due = meter.charging == '+'
      or (meter.charging == 'a' and allowed and not (meter.over == 's' and seen.over[m]))
    for _, ring in ipairs(meter) do
      position = position + 1
      if due then
        local at = seen.offsets[position]
        local cell = at + 2 + seen.state[at] % ring.size
        seen.state[cell] = seen.state[cell] + seen.cost
        seen.state[at + 1] = seen.state[at + 1] + seen.cost
        reply[slot] = seen.state[at + 1]
        charged = true
      end
      slot = slot + 2
    end
  end
  if charged then
    save(seen.key, seen.state)
  end
  return slot
end

-- KEYS   counters, all different; on a cluster of one slot
-- ARGV   now in microseconds or '' for the server's clock, then plan and cost of each key
-- reply  { allowed 0|1, now, then per key and ring: count, wait in microseconds }
-- Atomic: all keys are read before any is charged; a refusal charges only the `always` meters.
local function decide(keys, args)
  local now = tonumber(args[1]) or server_now()
  local reply, seen, allowed = { 1, now }, {}, true
  for k, key in ipairs(keys) do
    seen[k] = read(key, args[2 * k], tonumber(args[2 * k + 1]), now, reply)
    allowed = allowed and not seen[k].denies
  end
  local slot = 3
  for k = 1, #keys do
    slot = charge(seen[k], allowed, reply, slot)
  end
  reply[1] = allowed and 1 or 0
  return reply
end

local function is_empty(state, layout)
  for _, ring in ipairs(layout.rings) do
    if state[ring.at + 1] > 0 then
      return false
    end
  end
  return true
end

-- KEYS   counters
-- ARGV   the time that `decide` answered, then plan and cost of each key
-- reply  how many rings were given something back
-- Takes at most what the bucket of that time holds; leaves the expiry alone, and nothing where nothing is left:
-- or whoever begins messages and gives them up would fill the store for nothing.
local function refund(keys, args)
  local charged_at, refunded = tonumber(args[1]), 0
  for k, key in ipairs(keys) do
    local plan_text, cost = args[2 * k], tonumber(args[2 * k + 1])
    local plan = plans[plan_text] or parse_plan(plan_text)
    local raw = redis.call('GET', key)
    local state = raw and cmsgpack.unpack(raw)
    local layout = state and (layouts[state[1]] or parse_layout(state[1]))
    for _, meter in ipairs(state and plan or {}) do
      for _, ring in ipairs(meter) do
        local at = layout.at[ring.name]
        local bucket = at and math.min(math.floor(charged_at / ring.width), state[at])
        if at and bucket > state[at] - ring.size then
          local cell = at + 2 + bucket % ring.size
          local taken = math.min(cost, state[cell])
          state[cell] = state[cell] - taken
          state[at + 1] = state[at + 1] - taken
          refunded = refunded + 1
        end
      end
    end
    if state and is_empty(state, layout) then
      redis.call('DEL', key)
    elseif state then
      redis.call('SET', key, cmsgpack.pack(state), 'KEEPTTL')
    end
  end
  return refunded
end

-- KEYS   counters of one entity
-- ARGV   now in microseconds or ''
-- reply  per key: { { scope:window:buckets, last, cells oldest first ... }, ... } of the windows that hold something
local function series(keys, args)
  local now = tonumber(args[1]) or server_now()
  local reply = {}
  for k, key in ipairs(keys) do
    reply[k] = {}
    local raw = redis.call('GET', key)
    local state = raw and cmsgpack.unpack(raw)
    local layout = state and (layouts[state[1]] or parse_layout(state[1])) or { rings = {} }
    for _, ring in ipairs(layout.rings) do
      advance(state, ring.at, ring.size, math.ceil(ring.window * 1000000 / (ring.size - 1)), now)
      if state[ring.at + 1] > 0 then
        local row = { ring.name, state[ring.at] }
        for bucket = state[ring.at] - ring.size + 1, state[ring.at] do
          row[#row + 1] = state[ring.at + 2 + bucket % ring.size]
        end
        reply[k][#reply[k] + 1] = row
      end
    end
  end
  return reply
end

redis.register_function('reputon_@VERSION@_decide', decide)
redis.register_function('reputon_@VERSION@_refund', refund)
redis.register_function { function_name = 'reputon_@VERSION@_series', callback = series, flags = { 'no-writes' } }
