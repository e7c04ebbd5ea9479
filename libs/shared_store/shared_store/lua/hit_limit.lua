-- hit_limit: count an attempt.
-- KEYS[1]  counter
-- ARGV[1]  window, milliseconds
-- ARGV[2]  '1': every attempt restarts the window
-- returns  {count, milliseconds until the counter ends}
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 or ARGV[2] == '1' then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
return {count, left}
