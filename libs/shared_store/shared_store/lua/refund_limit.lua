-- refund_limit: give an attempt back.
-- KEYS[1]  counter
-- returns  the count left; a counter that is gone or at nothing stays so, and junk goes
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'table' and not held.err:find('WRONGTYPE') then
  return held
end
local count = type(held) == 'string' and tonumber(held) or 0
if count <= 1 then
  redis.call('DEL', KEYS[1])
  return 0
end
local left = redis.call('PTTL', KEYS[1])
-- Not DECR: a full server lets a script that has deleted something go on writing.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], count - 1, 'PX', math.max(left, 1))
return count - 1
