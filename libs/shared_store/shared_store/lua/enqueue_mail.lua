-- enqueue_mail: hand a job over to the mailers.
-- KEYS[1]  ready    KEYS[2]  delayed    KEYS[3]  jobs    KEYS[4]  result of this job    KEYS[5]  deaths    KEYS[6]  logins
-- ARGV[1]  job id
-- ARGV[2]  job
-- ARGV[3]  bound of ready and delayed together
-- returns  1 queued, 0 known already (in the queue, or done with), -1 refused: the queue is at its bound
-- A job of a login that has one in the queue takes that one's place; where that is in a worker's hand, it waits for it.
local id = ARGV[1]
if redis.call('HEXISTS', KEYS[3], id) == 1 or redis.call('EXISTS', KEYS[4]) == 1 then
  return 0
end
local login = login_of(id)
local older, behind = jobs_of(KEYS[6], login)
if older and redis.call('HEXISTS', KEYS[3], older) == 1 then
  redis.call('HSET', KEYS[3], id, ARGV[2])
  local due = redis.call('ZSCORE', KEYS[2], older)
  local place = not due and redis.call('LPOS', KEYS[1], older, 'RANK', -1)
  if due then
    redis.call('ZREM', KEYS[2], older)
    redis.call('ZADD', KEYS[2], due, id)
  elseif place then
    redis.call('LSET', KEYS[1], place, id)
  else
    redis.call('HSET', KEYS[6], login, older .. ' ' .. id)
    redis.call('HDEL', KEYS[3], behind)
    return 1
  end
  replace(KEYS[3], KEYS[5], older, id)
  redis.call('HSET', KEYS[6], login, id)
  return 1
end
if redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then
  return -1
end
redis.call('HSET', KEYS[3], id, ARGV[2])
redis.call('LPUSH', KEYS[1], id)
if login then
  redis.call('HSET', KEYS[6], login, id)
end
return 1
