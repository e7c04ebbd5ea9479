-- write_fetch: keep a document, or the fact that it could not be fetched.
-- KEYS[1]  fetch key
-- ARGV[1]  'document' or 'failure'
-- ARGV[2]  its text
-- ARGV[3]  milliseconds for which it is fresh
-- ARGV[4]  milliseconds after that for which it is kept, stale
-- returns  1
-- A failure beside a document leaves the document as it is: an old answer is better than none.
if ARGV[1] == 'failure' and redis.call('HEXISTS', KEYS[1], 'document') == 1 then
  local left = redis.call('PTTL', KEYS[1])
  redis.call('HSET', KEYS[1], 'failure', ARGV[2], 'stale', math.max(left - tonumber(ARGV[3]), 0))
  return 1
end
-- Written before anything is deleted, so that a full server refuses it.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'stale', ARGV[4])
if ARGV[1] == 'document' then
  redis.call('HDEL', KEYS[1], 'failure')
end
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[3]) + tonumber(ARGV[4]))
return 1
