-- consume_login: end a login that needs no code (an identity provider answered, or the person gave up).
-- KEYS[1]  login key
-- ARGV[1]  operation id: the same one again gets the same answer
-- ARGV[2]  milliseconds for which a consumed login answers that repetition
-- returns  {request, data}, or false where it is not there or another has consumed it
local request, data, op = unpack(redis.call('HMGET', KEYS[1], 'request', 'data', 'op'))
if not request or (op and op ~= ARGV[1]) then
  return false
end
if not op then
  redis.call('HDEL', KEYS[1], 'code', 'sealed')
  redis.call('HSET', KEYS[1], 'op', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {request, data}
