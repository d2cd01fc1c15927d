-- The counters of reputon, as one library of Redis Functions (Redis >= 7.0, Valkey >= 8). The files of this
-- directory are its parts, in the order of their numbers; @VERSION@ is a hash of them all, so that releases
-- live side by side while a fleet is upgraded. `math`, `pairs` and the like do not exist while a library loads: they are
-- used inside functions only. What looks long-winded on the way of a decision was measured: tables that grow are what costs
-- most there, then calls of library functions.
--
-- Each key is of one kind, which the first letter of its plan says:
--
--   r  rings     all windows of one metric of one entity (2_rings.lua)
--   m  moments   when the units of one rule came, for interpolated limits (3_moments.lua)
--   d  distinct  members by the time they were last seen, for one rule (4_sets.lua)
--   c  leases    members by the time their lease ends, for one rule (4_sets.lua)
--   e  evidence  decayed sums of good and bad outcomes (5_evidence.lua)
--   s  seen      when the key was first and last seen (5_seen.lua)
--
-- A plan is the text of what a caller wants with a key:
--
--     kind|scope;over;charging;window:buckets:limit[,window:...][|scope;...]
--       over      d denies    s skips          n notes      (reputation/charges.py)
--       charging  a accepted  + always         - never
--       window    in seconds; of rings, cut into so many buckets
--       limit     0 for none
--
-- Plans repeat from call to call, so their parsed form is kept in this library's memory.
-- With each plan comes an amount: the cost for r and m, the member for d and c, "POSITION:WEIGHT" or "" for evidence;
-- for s it is not looked at.

-- The kinds of keys. Each has
--   read(seen, now, reply, slot)              write the numbers of the key from `slot` on, note which meters are over
--   charge(seen, allowed, now, reply, slot)   charge what is due, and bring the numbers up to date
--   refund(key, plan, amount, charged_at, prior, token)   give back; how much was given
--   extra                                     how many numbers there are besides count and wait of each window
-- `seen` has key, plan, amount and token, and takes over[m], denies and repeated.
local kinds = {}

local MAX_CACHED = 4096

local plans, layouts, cached = {}, {}, 0

-- Keep a parsed text; when there are too many, begin anew: somebody changes his rules all the time.
local function remember(cache, text, value)
  cached = cached + 1
  if cached > MAX_CACHED then
    plans, layouts, cached = {}, {}, 0
  else
    cache[text] = value
  end
  return value
end

-- A ring is named scope:window:buckets; the width of a bucket is rounded up, so that it never covers less.
local function width_of(window, buckets)
  return math.ceil(window * 1000000 / buckets)
end

local function plan_of(text)
  local plan = plans[text]
  if plan then
    return plan
  end
  plan = { kind = string.sub(text, 1, 1), longest = 0, size = 0, fits = {} }
  for scope, over, charging, rings in string.gmatch(string.sub(text, 3) .. '|', '([^;|]*);(.);(.);([^|]*)|') do
    local meter = { over = over, charging = charging }
    for window, buckets, limit in string.gmatch(rings, '(%d+):(%d+):(%d+)') do
      meter[#meter + 1] = {
        name = scope .. ':' .. window .. ':' .. buckets,
        limit = tonumber(limit),
        window_us = tonumber(window) * 1000000,
      }
      plan.longest = math.max(plan.longest, tonumber(window))
      plan.size = plan.size + 2
    end
    plan[#plan + 1] = meter
  end
  plan.size = plan.size + (kinds[plan.kind].extra or 0)
  return remember(plans, text, plan)
end

-- Where the rings of a layout ("scope:window:buckets;...") lie among the numbers of a state: the total of each, then its
-- cells. How many numbers there are, and how long the key is kept: the longest window and a tenth, in milliseconds.
local function layout_of(text)
  local layout = layouts[text]
  if layout then
    return layout
  end
  layout = { text = text, named = {}, count = 0, longest = 0, heads = {}, formats = {} }
  for scope, window, buckets in string.gmatch(text, '([^;:]*):(%d+):(%d+)') do
    local size = tonumber(buckets) + 1
    local ring = {
      name = scope .. ':' .. window .. ':' .. buckets,
      total = layout.count + 1,
      first = layout.count + 2,
      size = size,
      width = width_of(tonumber(window), tonumber(buckets)),
    }
    layout[#layout + 1] = ring
    layout.named[ring.name] = ring
    layout.count = layout.count + 1 + size
    layout.longest = math.max(layout.longest, tonumber(window))
  end
  layout.expiry = tostring(layout.longest * 1100)
  return remember(layouts, text, layout)
end

local function server_now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Numbers beyond 10^14 would be written as 1e+14.
local function integer(number)
  return string.format('%.0f', number)
end

-- Whether a meter is charged, given what the whole decision came to.
local function is_due(meter, over, allowed)
  return meter.charging == '+' or (meter.charging == 'a' and allowed and not (meter.over == 's' and over))
end

local function note(seen, m, over)
  seen.over[m] = over
  if over and seen.plan[m].over == 'd' then
    seen.denies = true
  end
end
