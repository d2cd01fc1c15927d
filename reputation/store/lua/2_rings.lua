-- Rings: units in sliding windows. reputation/windows.py explains the arithmetic and is the reference for it.
--
-- A key holds all windows of one metric of one entity, in one string:
--
--     letter  layout  \0  time  numbers  tokens
--       letter   how wide a number is: B 1 byte, H 2, I 4, d 8; the largest total decides
--       layout   "scope:window:buckets;...": names the rings that follow, in order
--       time     microseconds up to which all rings were brought, never goes back; its bucket is each ring's youngest
--       numbers  of each ring its total, then buckets + 1 cells; bucket i lives in cell i % (buckets + 1)
--       tokens   of what must not be charged twice, 8 bytes each, oldest first
--
-- An entity that was seen a few times costs 52 bytes for three windows. There is no overflow: numbers widen.

local NOTHING = { text = '', named = {}, count = 0, longest = 0 } -- the layout of no key
local TOKEN_BYTES = 8
local MAX_TOKENS = 64
local MAX_UNPACKED = 4000

local BYTES = { B = 1, H = 2, I = 4, d = 8 }
local FORMATS = { H = 'I2', I = 'I4', d = 'd' }

local function format_of(layout, letter)
  local format = layout.formats[letter]
  if not format then
    format = '<' .. string.rep(FORMATS[letter], layout.count)
    layout.formats[letter] = format
  end
  return format
end

-- More numbers than Lua's stack has room for: after many changes of a rule's windows.
local function numbers_in_pieces(raw, from, layout, letter)
  local state, width = {}, BYTES[letter]
  for first = 1, layout.count, MAX_UNPACKED do
    local last = math.min(layout.count, first + MAX_UNPACKED - 1)
    local at = from + (first - 1) * width
    local piece = letter == 'B' and { string.byte(raw, at, at + last - first) }
      or { struct.unpack('<' .. string.rep(FORMATS[letter], last - first + 1), raw, at) }
    for i = first, last do
      state[i] = piece[i - first + 1]
    end
  end
  return state
end

local function packed_in_pieces(state, layout, letter)
  local pieces = {}
  for first = 1, layout.count, MAX_UNPACKED do
    local last = math.min(layout.count, first + MAX_UNPACKED - 1)
    pieces[#pieces + 1] = letter == 'B' and string.char(unpack(state, first, last))
      or struct.pack('<' .. string.rep(FORMATS[letter], last - first + 1), unpack(state, first, last))
  end
  return table.concat(pieces)
end

-- The numbers of a key as an array, and beside it layout, time and tokens.
local function decoded(raw)
  local letter, stop = string.sub(raw, 1, 1), string.find(raw, '\0', 2, true)
  local layout = layout_of(string.sub(raw, 2, stop - 1))
  local to = stop + 8 + layout.count * BYTES[letter]
  local time = struct.unpack('<d', raw, stop + 1)
  local tokens = #raw > to and string.sub(raw, to + 1) or ''
  if layout.count > MAX_UNPACKED then
    return numbers_in_pieces(raw, stop + 9, layout, letter), layout, time, tokens
  end
  if letter == 'B' then
    return { string.byte(raw, stop + 9, to) }, layout, time, tokens
  end
  return { struct.unpack(format_of(layout, letter), raw, stop + 9) }, layout, time, tokens
end

local function encoded(state, layout, time, tokens)
  local most, letter, numbers = 0, 'B', nil
  for r = 1, #layout do
    local total = state[layout[r].total]
    if total > most then
      most = total
    end
  end
  if most >= 256 then
    letter = most < 65536 and 'H' or most < 4294967296 and 'I' or 'd'
  end
  if layout.count > MAX_UNPACKED then
    numbers = packed_in_pieces(state, layout, letter)
  elseif letter == 'B' then
    numbers = string.char(unpack(state, 1, layout.count))
  else
    numbers = struct.pack(format_of(layout, letter), unpack(state, 1, layout.count))
  end
  local head = layout.heads[letter]
  if not head then
    head = letter .. layout.text .. '\0'
    layout.heads[letter] = head
  end
  return head .. struct.pack('<d', time) .. numbers .. tokens
end

-- Bring all rings up to `now`: what has aged out is dropped. Returns the new time, which never goes back.
local function advance(state, layout, time, now)
  if now <= time then
    return time
  end
  for r = 1, #layout do
    local ring = layout[r]
    local width = ring.width
    local last, index = (time - time % width) / width, (now - now % width) / width
    local total = state[ring.total]
    if index > last and total > 0 then
      local first, size = ring.first, ring.size
      if index - last >= size then
        last = index - size
      end
      for bucket = last + 1, index do
        local cell = first + bucket % size
        total = total - state[cell]
        state[cell] = 0
      end
      state[ring.total] = total
    end
  end
  return now
end

-- The numbers of a layout with all rings of the plan. Rings that only others use stay while they hold something.
local function extended(state, old, plan)
  local names = {}
  for r = 1, #old do
    if state[old[r].total] > 0 then
      names[#names + 1] = old[r].name
    end
  end
  for _, meter in ipairs(plan) do
    for _, ring in ipairs(meter) do
      local known = old.named[ring.name]
      if not (known and state[known.total] > 0) then
        names[#names + 1] = ring.name
      end
    end
  end
  local new, layout = {}, layout_of(table.concat(names, ';'))
  for _, ring in ipairs(layout) do
    local known = old.named[ring.name]
    for i = 0, ring.size do
      new[ring.total + i] = known and state[known.total + i] or 0
    end
  end
  return new, layout
end

-- The rings of a plan in a layout, in the plan's order; false when one is missing.
local function fit(plan, layout)
  local rings = plan.fits[layout.text]
  if rings == nil then
    rings = {}
    for _, meter in ipairs(plan) do
      for _, ring in ipairs(meter) do
        rings[#rings + 1] = layout.named[ring.name] or nil
        if not layout.named[ring.name] then
          return remember(plan.fits, layout.text, false)
        end
      end
    end
    remember(plan.fits, layout.text, rings)
  end
  return rings
end

-- What is kept under a key, brought up to `now` and with room for all of the plan.
local function load(seen, now)
  local raw, plan = redis.call('GET', seen.key), seen.plan
  local state, layout, time, tokens = {}, NOTHING, now, ''
  if raw then
    state, layout, time, tokens = decoded(raw)
    time = advance(state, layout, time, now)
  end
  local rings = fit(plan, layout)
  if not rings then
    state, layout = extended(state, layout, plan)
    rings = fit(plan, layout)
  end
  seen.state, seen.layout, seen.time, seen.tokens, seen.rings = state, layout, time, tokens, rings
end

-- Microseconds until so many units too many have left a ring.
local function retry_after(seen, ring, excess, now)
  local state, size, width = seen.state, ring.size, ring.width
  local last = (seen.time - seen.time % width) / width
  local last_filled = last
  for bucket = last - size + 1, last do
    local count = state[ring.first + bucket % size]
    if count > 0 then
      last_filled = bucket
      excess = excess - count
      if excess <= 0 then
        break
      end
    end
  end
  return math.max(1, (last_filled + size) * width - now)
end

local function is_known(tokens, token)
  local at = string.find(tokens, token, 1, true)
  while at do
    if at % TOKEN_BYTES == 1 then
      return at
    end
    at = string.find(tokens, token, at + 1, true)
  end
  return false
end

local function without(tokens, token)
  local at = token ~= '' and is_known(tokens, token)
  return at and string.sub(tokens, 1, at - 1) .. string.sub(tokens, at + TOKEN_BYTES) or tokens
end

kinds.r = {
  read = function(seen, now, reply, slot)
    load(seen, now)
    local plan, state, rings, position = seen.plan, seen.state, seen.rings, 0
    local cost = tonumber(seen.amount)
    if seen.token ~= '' and is_known(seen.tokens, seen.token) then
      cost, seen.repeated = 0, true
    end
    seen.cost = cost
    for m = 1, #plan do
      local meter, over = plan[m], false
      for w = 1, #meter do
        position = position + 1
        local ring, limit = rings[position], meter[w].limit
        local total = state[ring.total]
        reply[slot] = total
        if limit > 0 and total + cost > limit and not seen.repeated then
          reply[slot + 1] = retry_after(seen, ring, total + cost - limit, now)
          over = true
        end
        slot = slot + 2
      end
      note(seen, m, over)
    end
  end,
  charge = function(seen, allowed, _, reply, slot)
    local state, cost, plan, time = seen.state, seen.cost, seen.plan, seen.time
    local position, charged = 0, false
    for m = 1, #plan do
      local meter = plan[m]
      if cost > 0 and is_due(meter, seen.over[m], allowed) then
        charged = true
        for w = 1, #meter do
          local ring = seen.rings[position + w]
          local width = ring.width
          local cell = ring.first + (time - time % width) / width % ring.size
          local total = state[ring.total] + cost
          state[cell] = state[cell] + cost
          state[ring.total] = total
          reply[slot + 2 * w - 2] = total
        end
      end
      position = position + #meter
      slot = slot + 2 * #meter
    end
    if charged then
      local tokens, layout = seen.tokens, seen.layout
      if allowed and seen.token ~= '' then -- a refused attempt was charged for itself, not for what it wanted
        tokens = string.sub(tokens .. seen.token, -MAX_TOKENS * TOKEN_BYTES)
      end
      redis.call('SET', seen.key, encoded(state, layout, time, tokens), 'PX', layout.expiry)
    end
  end,
  refund = function(key, plan, amount, charged_at, _, token)
    local raw = redis.call('GET', key)
    if not raw then
      return 0
    end
    local state, layout, time, tokens = decoded(raw)
    local cost, refunded, left = tonumber(amount), 0, 0
    for _, meter in ipairs(plan) do
      for _, wanted in ipairs(meter) do
        local ring = layout.named[wanted.name]
        local last = ring and math.floor(time / ring.width)
        local bucket = ring and math.min(math.floor(charged_at / ring.width), last)
        if ring and bucket > last - ring.size then
          local cell = ring.first + bucket % ring.size
          local taken = math.min(cost, state[cell])
          state[cell] = state[cell] - taken
          state[ring.total] = state[ring.total] - taken
          refunded = refunded + 1
        end
      end
    end
    for r = 1, #layout do
      left = left + state[layout[r].total]
    end
    tokens = without(tokens, token)
    if left > 0 then
      redis.call('SET', key, encoded(state, layout, time, tokens), 'KEEPTTL')
    else -- or whoever begins messages and gives them up would fill the store for nothing
      redis.call('DEL', key)
    end
    return refunded
  end,
}
