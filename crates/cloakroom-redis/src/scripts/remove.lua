local stamp, handle, margin, index_prefix, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local value = redis.call('GET', KEYS[1]) or ''
if gone(value) then
  return { 'nothing' }
end
if not readable(value) then
  return { 'corrupt' }
end
local subject = subject_of(value)
-- First the index: it may refuse, while its slot is being moved, and then nothing has happened.
if subject ~= '' then
  redis.call('HDEL', index_prefix .. subject, handle)
end
bury(KEYS[1], stamp, tombstone_of(value), margin)
announce(channel, { handle })
return { 'removed', value }
