-- Moments: when the units of one rule came, for limits that are interpolated. reputation/moments.py explains the
-- arithmetic and is the reference for it. There is one meter: each rule has a key of its own.
--
-- A key holds a string, of which a decision reads only a few places:
--
--     latest      the time of the last charge in microseconds
--     longest     how long units are kept, in microseconds, until ...
--     till        ... then, if nobody charges by as long a window before
--     before      how many units there were before the first stretch; what there were ever is counted on and on
--     tokens      a byte that says how many, then 8 bytes each
--     stretches   oldest first, 20 bytes each: its last moment, how long it is, how many units there were up to its end

local KEPT_STRETCHES = 512
local MERGED_AT_ONCE = 64

local HEAD, HEAD_BYTES = '<ddddB', 33
local STRETCH, STRETCH_BYTES = '<I7I6I7', 20

-- What is kept under a key, as positions in its string.
local function moments_of(key)
  local raw = redis.call('GET', key)
  if not raw then
    return { raw = '', latest = 0, longest = 0, till = 0, before = 0, tokens = '', from = 1, n = 0 }
  end
  local latest, longest, till, before, tokens = struct.unpack(HEAD, raw)
  local from = HEAD_BYTES + 1 + tokens * TOKEN_BYTES
  return {
    raw = raw,
    latest = latest,
    longest = longest,
    till = till,
    before = before,
    tokens = string.sub(raw, HEAD_BYTES + 1, from - 1),
    from = from,
    n = (#raw + 1 - from) / STRETCH_BYTES,
  }
end

local function save_moments(key, kept, ...)
  local head = struct.pack(HEAD, kept.latest, kept.longest, kept.till, kept.before, #kept.tokens / TOKEN_BYTES)
  redis.call('SET', key, head .. kept.tokens .. string.sub(kept.raw, kept.from), ...)
end

-- Its last moment, its length, units up to its end.
local function stretch_at(kept, i)
  return struct.unpack(STRETCH, kept.raw, kept.from + (i - 1) * STRETCH_BYTES)
end

-- Units before a stretch.
local function units_before(kept, i)
  if i == 1 then
    return kept.before
  end
  local _, _, units = stretch_at(kept, i - 1)
  return units
end

-- The first stretch of which number `field` is larger than a bound; n + 1 when there is none.
local function first_beyond(kept, field, bound)
  local low, high = 1, kept.n + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if select(field, stretch_at(kept, middle)) > bound then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- Units that are younger than `since`, and how many there were up to then.
local function units_since(kept, since)
  local n = kept.n
  local oldest = first_beyond(kept, 1, since)
  if oldest > n then
    return 0, units_before(kept, n + 1)
  end
  local gone = units_before(kept, oldest)
  local last, length, units = stretch_at(kept, oldest)
  if last - length <= since then
    gone = gone + math.floor((since - (last - length)) / length * (units - gone - 1)) + 1
  end
  return units_before(kept, n + 1) - gone, gone
end

-- Microseconds until so many units too many have left a window that holds some in all, after others that are gone.
local function wait_for_moments(kept, window_us, excess, total, gone, now)
  local leaves = math.max(now, kept.latest)
  if total > 0 then
    local number = gone + math.min(excess, total)
    local at = first_beyond(kept, 3, number - 1)
    local before = units_before(kept, at)
    local last, length, units = stretch_at(kept, at)
    local index, count = number - before - 1, units - before
    leaves = count == 1 and last or last - length + math.ceil(index / (count - 1) * length)
  end
  return math.max(1, leaves + window_us - now)
end

-- Forget what has left the longest window.
local function forget_moments(kept)
  local first = first_beyond(kept, 1, kept.latest - kept.longest)
  kept.before = units_before(kept, first)
  kept.from, kept.n = kept.from + (first - 1) * STRETCH_BYTES, kept.n - first + 1
  if kept.n == 0 then
    kept.before = 0
  end
end

-- Put other stretches, packed, in place of those from a position on.
local function replace_stretches(kept, at, stretches, n)
  kept.raw = string.sub(kept.raw, 1, kept.from + (at - 1) * STRETCH_BYTES - 1) .. stretches
  kept.n = n
end

-- Make one of two neighbours, for those that lose the least by it; nobody is merged twice. The loss is how long two are
-- together, as a part of the window that they will leave next.
local function merge_moments(kept, lengths)
  local n, lasts, spans, units, losses, old = kept.n, {}, {}, {}, {}, 0
  for i = 1, n do
    lasts[i], spans[i], units[i] = stretch_at(kept, i)
    local age, next_length = kept.latest - lasts[i], lengths[#lengths]
    for w = #lengths, 1, -1 do
      if lengths[w] > age then
        next_length = lengths[w]
      end
    end
    if i > 1 then
      losses[i - 1] = (lasts[i] - lasts[i - 1] + spans[i - 1]) / next_length
      old = old + (age >= lengths[1] and 1 or 0)
    end
  end
  local considered, sorted = old >= MERGED_AT_ONCE and old or n - 1, {}
  for i = 1, considered do
    sorted[i] = losses[i]
  end
  table.sort(sorted)
  local most, left, fresh, first, packed = sorted[MERGED_AT_ONCE], MERGED_AT_ONCE, false, 0, {}
  for i = 1, n do
    if fresh and left > 0 and i - 1 <= considered and losses[i - 1] <= most then
      packed[#packed], left, fresh = struct.pack(STRETCH, lasts[i], lasts[i] - first, units[i]), left - 1, false
    else
      first, fresh = lasts[i] - spans[i], true
      packed[#packed + 1] = struct.pack(STRETCH, lasts[i], spans[i], units[i])
    end
  end
  replace_stretches(kept, 1, table.concat(packed), #packed)
end

local function add_moments(kept, cost, now, meter)
  local lengths, longest = {}, 0
  for w = 1, #meter do
    lengths[w] = meter[w].window_us
    longest = math.max(longest, lengths[w])
  end
  kept.latest = math.max(now, kept.latest)
  if longest >= kept.longest or kept.latest >= kept.till then
    kept.longest, kept.till = longest, kept.latest + longest
  end
  forget_moments(kept)
  local n, time = kept.n, kept.latest
  local units = units_before(kept, n + 1)
  if n > 0 then
    local last, length = stretch_at(kept, n)
    local alone = cost == 1 and units - units_before(kept, n) == 1
    if alone or (length == 0 and last == time) then
      replace_stretches(kept, n, struct.pack(STRETCH, time, time - (last - length), units + cost), n)
      return
    end
  end
  replace_stretches(kept, n + 1, struct.pack(STRETCH, time, 0, units + cost), n + 1)
  if n + 1 > KEPT_STRETCHES + MERGED_AT_ONCE then
    table.sort(lengths)
    merge_moments(kept, lengths)
  end
end

-- Take units of one moment out. Returns how many there were.
local function take_moments(kept, amount, moment)
  local at = kept.n
  while at > 0 do
    local last, length = stretch_at(kept, at)
    if last - length <= moment then
      break
    end
    at = at - 1
  end
  if at == 0 then
    return 0
  end
  local last, length, units = stretch_at(kept, at)
  local count = units - units_before(kept, at)
  local taken = math.min(amount, (count == 2 and length > 0) and 1 or count)
  local packed = {}
  if count - taken == 1 then -- of two it is the other one
    last, length = moment >= last and last - length or last, 0
  end
  if count > taken then
    packed[1] = struct.pack(STRETCH, last, length, units - taken)
  end
  for i = at + 1, kept.n do
    last, length, units = stretch_at(kept, i)
    packed[#packed + 1] = struct.pack(STRETCH, last, length, units - taken)
  end
  replace_stretches(kept, at, table.concat(packed), at - 1 + #packed)
  return taken
end

kinds.m = {
  read = function(seen, now, reply, slot)
    local kept = moments_of(seen.key)
    seen.state, seen.cost = kept, tonumber(seen.amount)
    seen.repeated = seen.token ~= '' and is_known(kept.tokens, seen.token) and true or false
    for m, meter in ipairs(seen.plan) do
      local over, time = false, math.max(now, kept.latest)
      for _, ring in ipairs(meter) do
        local total, gone = units_since(kept, time - ring.window_us)
        local excess = total + seen.cost - ring.limit
        reply[slot] = total
        if ring.limit > 0 and excess > 0 and not seen.repeated then
          reply[slot + 1] = wait_for_moments(kept, ring.window_us, excess, total, gone, now)
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
    add_moments(kept, cost, now, plan[1])
    if allowed and seen.token ~= '' then
      kept.tokens = string.sub(kept.tokens .. seen.token, -MAX_TOKENS * TOKEN_BYTES)
    end
    save_moments(seen.key, kept, 'PX', math.ceil(kept.longest * 11 / 10000))
    for _ = 1, #plan[1] do
      reply[slot] = reply[slot] + cost
      slot = slot + 2
    end
  end,
  refund = function(key, _, amount, charged_at, _, token)
    local kept = moments_of(key)
    if kept.n == 0 then
      return 0
    end
    forget_moments(kept)
    local refunded = take_moments(kept, tonumber(amount), charged_at)
    kept.tokens = without(kept.tokens, token)
    if kept.n > 0 then
      save_moments(key, kept, 'KEEPTTL')
    else
      redis.call('DEL', key)
    end
    return refunded
  end,
}
