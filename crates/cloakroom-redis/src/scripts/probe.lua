-- Whether a session could be inserted: without allow-oom, as the script that does it.
redis.call('SET', KEYS[1], pack(1), 'PX', 1000)
return 'written'
