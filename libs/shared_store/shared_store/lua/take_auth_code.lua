-- take_auth_code: redeem an authorization code, once; keep what its access token tells in the same step.
-- KEYS[1]  authorization code key
-- KEYS[2]  access token key
-- ARGV[1]  operation id: the same one again gets the same answer
-- ARGV[2]  milliseconds for which a redeemed code answers that repetition
-- ARGV[3]  hash of the access token's secret
-- ARGV[4]  life of the access token, milliseconds
-- returns  {grant, seconds, microseconds} with the server's time, or false
-- A code presented twice takes the access token that came of it along (RFC 6749 section 4.1.2).
local grant, claims, op = unpack(redis.call('HMGET', KEYS[1], 'grant', 'claims', 'op'))
if not grant or (op and op ~= ARGV[1]) then
  redis.call('DEL', KEYS[2])
  return false
end
if not op then
  redis.call('HDEL', KEYS[1], 'claims')
  redis.call('HSET', KEYS[1], 'op', ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('HSET', KEYS[2], 'secret', ARGV[3], 'claims', claims)
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
local time = redis.call('TIME')
return {grant, time[1], time[2]}
