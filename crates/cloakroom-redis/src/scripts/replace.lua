local expected, before, given, after, subject = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local skew, margin = tonumber(ARGV[6]), tonumber(ARGV[7])
local head = head_of(KEYS[1])
if gone(head) then
  return 'gone'
end
if not readable(head) then
  return 'corrupt'
end
if string.sub(head, 2, 9) ~= expected then
  return 'stale'
end
if subject_of(head) ~= subject then
  return 'subject'
end
local seen = math.max(number(head, 10), clamped(number(given, 1), skew))
local milliseconds = life(seen, number(after, 1), number(after, 9), number(after, 17), margin)
if KEYS[2] then
  prolong(KEYS[2], milliseconds)
end
redis.call('SET', KEYS[1], before .. pack(seen) .. after, 'PX', milliseconds)
return 'replaced'
