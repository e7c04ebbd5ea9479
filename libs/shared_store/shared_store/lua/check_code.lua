-- check_code: compare the code that a person brings; count a wrong one; consume the login on a right one if asked to.
-- KEYS[1]  login key
-- ARGV[1]  hash of the code brought
-- ARGV[2]  wrong guesses allowed
-- ARGV[3]  'consume' or 'look'
-- ARGV[4]  operation id: the same one again gets the same answer, and counts no second guess
-- ARGV[5]  milliseconds for which a login that is over answers that repetition
-- returns  {status, guesses left, request, data, hash of the browser's secret}
--          status: 'right', 'wrong', 'ended' (the last guess was wrong), 'gone', 'other' (not waiting for a code)
-- A login that is not there and one that is over look alike.
local code, request, data, browser, wrong, guess, op, ended =
  unpack(redis.call('HMGET', KEYS[1], 'code', 'request', 'data', 'browser', 'wrong', 'guess', 'op', 'ended'))
if not request or (op and op ~= ARGV[4]) then
  return {'gone', 0, false, false, false}
end
if op then
  return {ended and 'ended' or 'right', 0, request, data, browser}
end
if not code then
  return {'other', 0, false, false, false}
end
local count, allowed = tonumber(wrong or '0'), tonumber(ARGV[2])
local is_right = code == ARGV[1]
if not is_right and guess ~= ARGV[4] then
  count = count + 1
  -- A deletion first: a full server lets a script that has deleted go on writing, and must count guesses, too.
  redis.call('HDEL', KEYS[1], '')
  redis.call('HSET', KEYS[1], 'wrong', count, 'guess', ARGV[4])
end
local is_last = count >= allowed
if is_last or (is_right and ARGV[3] == 'consume') then
  redis.call('HDEL', KEYS[1], 'code', 'sealed')
  redis.call('HSET', KEYS[1], 'op', ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
if is_last then
  redis.call('HSET', KEYS[1], 'ended', 1)
  return {'ended', 0, request, data, browser}
end
return {is_right and 'right' or 'wrong', allowed - count, request, data, browser}
