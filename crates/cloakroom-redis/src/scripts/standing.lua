local own, everybody = epoch_of(KEYS[1]), epoch_of(KEYS[2])
if not own or not everybody then
  return { 'corrupt' }
end
local last = less(own, everybody) and everybody or own
local answer = { 'standing', sum(own, everybody) }
if last ~= ZERO then
  answer[3] = string.format('%.0f', math.max(clock() - number(last, 1), 0))
end
return answer
