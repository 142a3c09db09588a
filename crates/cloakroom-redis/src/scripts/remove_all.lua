local stamp, now, keep, margin = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local epochs_kept, prefix, channel, bare = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local index = KEYS[1]

local epoch, at = epoch_of(KEYS[2])
local everybody = epoch_of(KEYS[3])
if not epoch or not everybody then
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

epoch = raise(KEYS[2], epoch, at, now, epochs_kept)
for i, handle in ipairs(ended) do
  bury(prefix .. handle, stamp, tombstones[i], margin)
end
strike(index, struck)
announce(channel, ended)
return { 'ended', sum(epoch, everybody), table.concat(ended) }
