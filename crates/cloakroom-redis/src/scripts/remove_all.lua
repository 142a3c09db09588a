local stamp, now, keep, margin = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local epochs_kept, prefix, channel, bare = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local index = KEYS[1]

local last = redis.call('GET', KEYS[2])
if last and #last ~= 16 then
  return { 'corrupt' }
end
local ended, struck, tombstones = {}, {}, {}
for _, handle in ipairs(redis.call('HKEYS', index)) do
  local head = head_of(prefix .. handle)
  if gone(head) then
    struck[#struck + 1] = handle
  elseif handle ~= keep then
    struck[#struck + 1] = handle
    ended[#ended + 1] = handle
    -- What cannot be read is ended all the same; nobody will be recognised by its tombstone.
    tombstones[#ended] = readable(head) and tombstone_of(head) or bare
  end
end

local epoch, at = ZERO, now
if last then
  epoch = string.sub(last, 1, 8)
  -- The later time stays if this clock is behind: it decides which logins arrived too early.
  if less(now, string.sub(last, 9, 16)) then
    at = string.sub(last, 9, 16)
  end
end
epoch = next_number(epoch)
if less(epoch, now) then
  epoch = now
end
redis.call('SET', KEYS[2], epoch .. at, 'PX', epochs_kept)
for i, handle in ipairs(ended) do
  bury(prefix .. handle, stamp, tombstones[i], margin)
end
strike(index, struck)
announce(channel, ended)
return { 'ended', epoch, table.concat(ended) }
