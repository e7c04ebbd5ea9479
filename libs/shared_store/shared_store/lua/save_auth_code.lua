-- save_auth_code: keep what an authorization code stands for.
-- KEYS[1]  authorization code key
-- ARGV[1]  life, milliseconds
-- ARGV[2]  grant    ARGV[3]  claims
-- returns  1
-- What is there already stays as it is: this is the same call sent again, and the code may have been redeemed since.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 1
end
-- A deletion first: the login that this code ends has been consumed, so it must be kept on a full server, too.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'grant', ARGV[2], 'claims', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
