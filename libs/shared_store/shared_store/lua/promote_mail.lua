-- promote_mail: move delayed jobs whose time has come to ready, before those that wait there: they are older.
-- KEYS[1]  delayed    KEYS[2]  ready
-- ARGV[1]  how many at most
-- returns  how many
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
for i = #due, 1, -1 do
  redis.call('ZREM', KEYS[1], due[i])
  redis.call('RPUSH', KEYS[2], due[i])
end
return #due
