-- revive_mail: bring a job that waits for its next attempt forward, or drop one that waits.
-- KEYS[1]  delayed    KEYS[2]  ready    KEYS[3]  jobs    KEYS[4]  deaths    KEYS[5]  logins
-- ARGV[1]  job id
-- ARGV[2]  'now' or 'drop'
-- returns  1 done, 0 it does not wait (unknown, or in a worker's hand); one that is ready already counts as brought forward
local waits = redis.call('ZREM', KEYS[1], ARGV[1])
if ARGV[2] == 'now' then
  if waits == 1 then
    redis.call('RPUSH', KEYS[2], ARGV[1])
  elseif redis.call('LPOS', KEYS[2], ARGV[1], 'RANK', -1) then
    return 1
  end
  return waits
end
waits = waits + redis.call('LREM', KEYS[2], 1, ARGV[1])
if waits > 0 then
  leave(KEYS[5], ARGV[1])
else
  local login = login_of(ARGV[1])
  local first, newer = jobs_of(KEYS[5], login)
  if newer ~= ARGV[1] then
    return 0
  end
  redis.call('HSET', KEYS[5], login, first)
end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
return 1
