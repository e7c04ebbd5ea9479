-- delay_mail: put a job off.
-- KEYS[1]  taken by this worker    KEYS[2]  jobs    KEYS[3]  delayed    KEYS[4]  deaths    KEYS[5]  logins
-- ARGV[1]  job id
-- ARGV[2]  job, with this attempt added
-- ARGV[3]  milliseconds until the next attempt
-- returns  1 put off, 0 the job is not this worker's any more: nothing is changed
-- Where a newer job of the same login waits behind it, that one is put off in its place.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local id = newest(KEYS[5], KEYS[2], KEYS[4], ARGV[1])
if id == ARGV[1] then
  redis.call('HSET', KEYS[2], id, ARGV[2])
end
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[3]), id)
return 1
