-- renew_lease: register a worker, or renew its lease.
-- KEYS[1]  leases
-- ARGV[1]  worker
-- ARGV[2]  life, milliseconds
-- ARGV[3]  '1': register; else the lease has to be there still
-- returns  1 the lease is held, 0 it was gone: the reaper may have given the worker's jobs to others
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[3] ~= '1' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
-- A deletion first: workers have to go on where the server is full, since they empty it.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return 1
