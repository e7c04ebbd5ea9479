-- reap_mail: take over what a dead worker had in hand.
-- KEYS[1]  leases    KEYS[2]  taken by that worker    KEYS[3]  ready    KEYS[4]  deaths    KEYS[5]  jobs    KEYS[6]  logins
-- KEYS[7]  gone
-- ARGV[1]  the worker
-- returns  how many jobs went back to ready; -1 where its lease has not ended
-- The jobs go to the end that is taken from next: their persons have waited longest.
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if lease and tonumber(lease) > now then
  return -1
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[7], 'NX', now, ARGV[1])
local moved = 0
while true do
  local taken = redis.call('LPOP', KEYS[2])
  if not taken then
    return moved
  end
  local id = newest(KEYS[6], KEYS[5], KEYS[4], taken)
  redis.call('RPUSH', KEYS[3], id)
  if type(redis.pcall('HINCRBY', KEYS[4], id, 1)) == 'table' then
    redis.call('HSET', KEYS[4], id, 1) -- what lies there is no number
  end
  moved = moved + 1
end
