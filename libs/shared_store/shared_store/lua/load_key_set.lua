-- load_key_set: read a key set and the server's time.
-- KEYS[1]  key set
-- returns  {seconds, microseconds, version, current, next, previous, revoked}
local fields = redis.call('HMGET', KEYS[1], 'version', 'current', 'next', 'previous', 'revoked')
local time = redis.call('TIME')
return {time[1], time[2], fields[1], fields[2], fields[3], fields[4], fields[5]}
