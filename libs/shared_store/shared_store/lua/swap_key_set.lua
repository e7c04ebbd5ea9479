-- swap_key_set: write a key set if it still has the version it was derived from, log the change, and tell everyone.
-- KEYS[1]  key set    KEYS[2]  log, newest first
-- ARGV[1]  version expected, '0' for none, 'any' to overwrite whatever is there
-- ARGV[2]  new version    ARGV[3]  current    ARGV[4]  next    ARGV[5]  previous
-- ARGV[6]  operation id: the same one again gets the same answer
-- ARGV[7]  channel    ARGV[8]  kids that are revoked    ARGV[9]  what to log    ARGV[10]  most entries of the log
-- returns  1 written, 0 another wrote first
if ARGV[1] == 'any' and redis.call('TYPE', KEYS[1])['ok'] ~= 'hash' then
  redis.call('DEL', KEYS[1])
end
local version, op = unpack(redis.call('HMGET', KEYS[1], 'version', 'op'))
if op and op == ARGV[6] then
  return 1
end
if ARGV[1] ~= 'any' and (version or '0') ~= ARGV[1] then
  return 0
end
if redis.call('TYPE', KEYS[2])['ok'] ~= 'list' then
  redis.call('DEL', KEYS[2])
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'current', ARGV[3], 'next', ARGV[4], 'previous', ARGV[5],
  'revoked', ARGV[8], 'op', ARGV[6])
redis.call('LPUSH', KEYS[2], redis.call('TIME')[1] .. ' ' .. ARGV[9])
redis.call('LTRIM', KEYS[2], 0, ARGV[10] - 1)
redis.call('PUBLISH', ARGV[7], KEYS[1])
return 1
