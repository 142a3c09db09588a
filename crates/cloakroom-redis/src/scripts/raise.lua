local epoch, at = epoch_of(KEYS[1])
if not epoch then
  return 'corrupt'
end
raise(KEYS[1], epoch, at, ARGV[1], ARGV[2])
return 'raised'
