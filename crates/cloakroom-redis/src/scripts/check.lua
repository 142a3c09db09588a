-- Uses each command of the other scripts once, so that a missing permission is found at the start and never in the middle of a
-- write. What it writes is gone a second later. The channel hears an empty message, which says nothing.
local key, hash, set = KEYS[1], KEYS[2], KEYS[3]
redis.call('TIME')
redis.call('EXISTS', key)
redis.call('SET', key, pack(1), 'PX', 1000)
redis.call('GET', key)
redis.call('GETRANGE', key, 0, 1)
redis.call('SETRANGE', key, 0, '\0')
redis.call('PTTL', key)
redis.call('HSET', hash, 'field', '')
redis.call('HKEYS', hash)
redis.call('HRANDFIELD', hash, 2)
redis.call('HDEL', hash, 'field')
redis.call('SADD', set, 'member')
redis.call('SMEMBERS', set)
redis.call('PEXPIRE', set, 1000)
redis.call('PUBLISH', ARGV[1], '')
return 'checked'
