local skew, margin = tonumber(ARGV[2]), tonumber(ARGV[3])
local head = head_of(KEYS[1])
if gone(head) then
  return 'done'
end
if not readable(head) then
  return 'corrupt'
end
local seen = clamped(number(ARGV[1], 1), skew)
if seen > number(head, 10) then
  local milliseconds = life(seen, number(head, 18), number(head, 26), number(head, 34), margin)
  local subject = subject_of(head)
  -- First the index: it may refuse, while its slot is being moved, and then nothing has happened.
  if subject ~= '' then
    prolong(ARGV[4] .. subject, milliseconds)
  end
  redis.call('SETRANGE', KEYS[1], 9, pack(seen))
  redis.call('PEXPIRE', KEYS[1], milliseconds)
end
return 'done'
