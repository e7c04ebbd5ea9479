-- enqueue_mail: hand a job over to the mailers.
-- KEYS[1]  ready    KEYS[2]  delayed    KEYS[3]  jobs    KEYS[4]  result of this job
-- ARGV[1]  job id
-- ARGV[2]  job
-- ARGV[3]  bound of ready and delayed together
-- returns  1 queued, 0 known already (in the queue, or done with), -1 refused: the queue is at its bound
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 or redis.call('EXISTS', KEYS[4]) == 1 then
  return 0
end
if redis.call('LLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then
  return -1
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('LPUSH', KEYS[1], ARGV[1])
return 1
