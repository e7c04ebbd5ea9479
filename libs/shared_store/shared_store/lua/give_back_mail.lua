-- give_back_mail: return what a worker has in hand, untried, and end its lease.
-- KEYS[1]  leases    KEYS[2]  taken by this worker    KEYS[3]  ready    KEYS[4]  deaths    KEYS[5]  jobs    KEYS[6]  logins
-- KEYS[7]  gone
-- ARGV[1]  the worker
-- returns  how many jobs went back to ready
redis.call('ZREM', KEYS[1], ARGV[1])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[7], tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), ARGV[1])
local moved = 0
while true do
  local id = redis.call('LPOP', KEYS[2])
  if not id then
    return moved
  end
  redis.call('RPUSH', KEYS[3], newest(KEYS[6], KEYS[5], KEYS[4], id))
  moved = moved + 1
end
