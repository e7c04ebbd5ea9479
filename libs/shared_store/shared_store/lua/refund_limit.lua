-- refund_limit: give an attempt back.
-- KEYS[1]  counter
-- returns  the count left; a counter that is gone or at nothing stays so
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count <= 1 then
  redis.call('DEL', KEYS[1])
  return 0
end
return redis.call('DECR', KEYS[1])
