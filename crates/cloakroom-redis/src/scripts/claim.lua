local known = redis.call('SMEMBERS', KEYS[1])
local ours = #known == 0
for _, id in ipairs(known) do
  for i = 1, #ARGV do
    ours = ours or id == ARGV[i]
  end
end
if not ours then
  return known
end
redis.call('SADD', KEYS[1], ARGV[1])
return {}
