local before, given, after, handle, misplaced = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local skew, margin = tonumber(ARGV[6]), tonumber(ARGV[7])
if redis.call('EXISTS', KEYS[1]) == 1 then
  return { 'taken' }
end
if misplaced == '1' then
  return { 'misplaced' }
end

local index = KEYS[2]
local victims, heads, stale = {}, {}, {}
if index then
  local since, now, max, at_cap = ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11]
  local prefix = ARGV[12]
  local own, everybody = epoch_of(KEYS[3]), epoch_of(KEYS[4])
  if not own or not everybody then
    return { 'corrupt' }
  end
  if sum(own, everybody) ~= since then
    return { 'superseded' }
  end

  if max > 0 then
    local live = {}
    for _, other in ipairs(redis.call('HKEYS', index)) do
      local head = head_of(prefix .. other)
      if gone(head) then
        stale[#stale + 1] = other
      elseif not readable(head) then
        return { 'corrupt' }
      elseif deadline_of(head) > now then
        live[#live + 1] = { handle = other, created = number(head, 18), seen = number(head, 10) }
        heads[other] = head
      end
    end
    local surplus = #live + 1 - max
    if surplus > 0 then
      -- The same order as Admission::make_room.
      local time = at_cap == 'idle' and 'seen' or 'created'
      table.sort(live, function(a, b)
        local a_used, b_used = a.seen > a.created, b.seen > b.created
        if a_used ~= b_used then
          return b_used
        end
        if a[time] ~= b[time] then
          return a[time] < b[time]
        end
        return less(a.handle, b.handle)
      end)
      for i = 1, math.min(surplus, #live) do
        if at_cap == 'deny' and live[i].seen > live[i].created then
          return { 'full' }
        end
        victims[i] = live[i].handle
      end
    end
  else
    -- Two others are looked at, so that what has expired does not pile up.
    for _, other in ipairs(redis.call('HRANDFIELD', index, 2)) do
      if gone(head_of(prefix .. other)) then
        stale[#stale + 1] = other
      end
    end
  end

  -- Nothing was written before here, and nothing is refused from here on.
  strike(index, stale)
  for _, other in ipairs(victims) do
    bury(prefix .. other, ARGV[13], tombstone_of(heads[other]), margin)
  end
  strike(index, victims)
end

local seen = clamped(number(given, 1), skew)
local milliseconds = life(seen, number(after, 1), number(after, 9), number(after, 17), margin)
redis.call('SET', KEYS[1], before .. pack(seen) .. after, 'PX', milliseconds)
if index then
  redis.call('HSET', index, handle, '')
  prolong(index, milliseconds)
  announce(ARGV[14], victims)
end
return { 'inserted', table.concat(victims) }
