-- hit_limit: count an attempt.
-- KEYS[1]  counter
-- ARGV[1]  window, milliseconds
-- ARGV[2]  '1': every attempt restarts the window
-- returns  {count, milliseconds until the counter ends}
local count = redis.pcall('INCR', KEYS[1])
if type(count) == 'table' then
  -- Junk in a counter's place would refuse a person for ever. Any other error, of a full server for one, is told.
  if not (count.err:find('WRONGTYPE') or count.err:find('not an integer') or count.err:find('overflow')) then
    return count
  end
  redis.call('DEL', KEYS[1])
  count = redis.call('INCR', KEYS[1])
end
local left = redis.call('PTTL', KEYS[1])
if left < 0 or ARGV[2] == '1' then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
return {count, left}
