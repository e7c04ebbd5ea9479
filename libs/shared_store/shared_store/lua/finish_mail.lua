-- finish_mail: be done with a job, delivered or given up.
-- KEYS[1]  taken by this worker    KEYS[2]  jobs    KEYS[3]  deaths    KEYS[4]  dead    KEYS[5]  result of this job
-- KEYS[6]  ready    KEYS[7]  logins
-- ARGV[1]  job id
-- ARGV[2]  outcome, for the page that waits
-- ARGV[3]  milliseconds for which the outcome is kept
-- ARGV[4]  channel on which it is told; '' for nobody
-- ARGV[5]  what to keep among the dead; '' where it was delivered
-- ARGV[6]  how many dead to keep
-- returns  1 done, 0 the job is not this worker's any more: nothing is changed
-- Deletions come first: a full server lets a script that has freed something go on writing.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then
  return 0
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
local newer = leave(KEYS[7], ARGV[1])
if newer then
  redis.call('RPUSH', KEYS[6], newer)
end
if ARGV[5] ~= '' then
  redis.call('LPUSH', KEYS[4], ARGV[5])
  redis.call('LTRIM', KEYS[4], 0, tonumber(ARGV[6]) - 1)
end
redis.call('SET', KEYS[5], ARGV[2], 'PX', ARGV[3])
if ARGV[4] ~= '' then
  redis.call('PUBLISH', ARGV[4], ARGV[1] .. ' ' .. ARGV[2])
end
return 1
