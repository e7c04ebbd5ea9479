-- consume_login: end a login that needs no code (an identity provider answered, or the person gave up).
-- KEYS[1]  login key
-- ARGV[1]  operation id: the same one again gets the same answer
-- ARGV[2]  milliseconds for which a consumed login answers that repetition
-- ARGV[3]  hash of the secret of the browser that must have begun it; '' for any
-- returns  {request, data}, or false where it is not there, another's, or another has consumed it
local request, data, op, browser = unpack(redis.call('HMGET', KEYS[1], 'request', 'data', 'op', 'browser'))
if not request or (op and op ~= ARGV[1]) or (ARGV[3] ~= '' and browser ~= ARGV[3]) then
  return false
end
if not op then
  redis.call('HDEL', KEYS[1], 'code', 'sealed')
  redis.call('HSET', KEYS[1], 'op', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {request, data}
