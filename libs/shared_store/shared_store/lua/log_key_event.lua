-- log_key_event: log what was done with keys without changing them.
-- KEYS[1]  log, newest first
-- ARGV[1]  what to log; the same text again is logged once    ARGV[2]  most entries of the log
if redis.call('TYPE', KEYS[1])['ok'] ~= 'list' then
  redis.call('DEL', KEYS[1])
end
local last = redis.call('LRANGE', KEYS[1], 0, 0)[1]
if last and last:match('^%d+ (.*)$') == ARGV[1] then
  return 0
end
redis.call('LPUSH', KEYS[1], redis.call('TIME')[1] .. ' ' .. ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
return 1
