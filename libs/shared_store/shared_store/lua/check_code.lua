-- check_code: compare the code that a person brings; count a wrong one; consume the login on a right one if asked to.
-- KEYS[1]  login key
-- ARGV[1]  hash of the code brought
-- ARGV[2]  wrong guesses allowed
-- ARGV[3]  'consume' or 'look'
-- ARGV[4]  operation id: the same one again gets the same answer
-- ARGV[5]  milliseconds for which a consumed login answers that repetition
-- returns  {status, guesses left, request, data, hash of the browser's secret}
--          status: 'right', 'wrong', 'ended' (the last guess was wrong), 'gone', 'other' (not waiting for a code)
-- A login that is not there and one that is consumed look alike.
local code, request, data, browser, wrong, op =
  unpack(redis.call('HMGET', KEYS[1], 'code', 'request', 'data', 'browser', 'wrong', 'op'))
if not request or (op and op ~= ARGV[4]) then
  return {'gone', 0, false, false, false}
end
if op then
  return {'right', 0, request, data, browser}
end
if not code then
  return {'other', 0, false, false, false}
end
if code ~= ARGV[1] then
  local left = tonumber(ARGV[2]) - tonumber(wrong or '0') - 1
  if left <= 0 then
    redis.call('DEL', KEYS[1])
    return {'ended', 0, request, data, browser}
  end
  -- A full server must count guesses, too, or it would let them be made without end.
  redis.call('HDEL', KEYS[1], '')
  redis.call('HINCRBY', KEYS[1], 'wrong', 1)
  return {'wrong', left, request, data, browser}
end
if ARGV[3] == 'consume' then
  -- A deletion first: a full server lets a script that has freed something go on writing.
  redis.call('HDEL', KEYS[1], 'code', 'sealed')
  redis.call('HSET', KEYS[1], 'op', ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return {'right', tonumber(ARGV[2]) - tonumber(wrong or '0'), request, data, browser}
