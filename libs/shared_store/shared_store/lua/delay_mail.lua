-- delay_mail: put a job off.
-- KEYS[1]  taken by this worker    KEYS[2]  jobs    KEYS[3]  delayed
-- ARGV[1]  job id
-- ARGV[2]  job, with this attempt added
-- ARGV[3]  milliseconds until the next attempt
-- returns  1 put off, 0 the job is not this worker's any more: nothing is changed
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], now + tonumber(ARGV[3]), ARGV[1])
return 1
