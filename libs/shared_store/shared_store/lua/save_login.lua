-- save_login: keep a login in flight, with the time (ms) at which it began.
-- KEYS[1]  login key
-- ARGV[1]  life, milliseconds
-- ARGV[2…] field, value, field, value, …
-- returns  1
-- What is there already stays as it is: this is the same call sent again.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 1
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], 'sent', now, unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
