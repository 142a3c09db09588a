-- As remove.lua, but what cannot be read is ended all the same, and nothing is sent back.
local stamp, handle, margin, index_prefix, channel, bare = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local head = head_of(KEYS[1])
if gone(head) then
  return 'nothing'
end
local tombstone = bare
if readable(head) then
  tombstone = tombstone_of(head)
  local subject = subject_of(head)
  -- First the index: it may refuse, while its slot is being moved, and then nothing has happened.
  if subject ~= '' then
    redis.call('HDEL', index_prefix .. subject, handle)
  end
end
bury(KEYS[1], stamp, tombstone, margin)
announce(channel, { handle })
return 'ended'
