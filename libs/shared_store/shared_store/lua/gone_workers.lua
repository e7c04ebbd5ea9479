-- gone_workers: name the workers whose lease was ended, and forget those of long ago.
-- KEYS[1]  gone
-- ARGV[1]  milliseconds after which one is forgotten
-- returns  their names
-- A blocking move may come after its worker's end, from a process that was stopped or a server that was: what it moved
-- lies in a hand that has no lease, and only this list still knows of it.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]))
return redis.call('ZRANGE', KEYS[1], 0, -1)
