local index, prefix = KEYS[1], ARGV[1]
local found, stale = {}, {}
for _, handle in ipairs(redis.call('HKEYS', index)) do
  local value = redis.call('GET', prefix .. handle) or ''
  if gone(value) then
    stale[#stale + 1] = handle
  else
    found[#found + 1] = handle
    found[#found + 1] = value
  end
end
strike(index, stale)
return found
