-- expired_workers: name the workers whose lease has ended.
-- KEYS[1]  leases
-- returns  {server's time in ms, their names}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
return {now, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)}
