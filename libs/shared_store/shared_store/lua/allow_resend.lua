-- allow_resend: decide whether the mail of a login may be sent once more, and count it.
-- KEYS[1]  login key
-- ARGV[1]  hash of the secret in the browser's cookie
-- ARGV[2]  milliseconds between two mails
-- ARGV[3]  mails allowed in all
-- ARGV[4]  operation id: the same one again gets the same answer
-- returns  {status, milliseconds, request, data, sealed code, mails sent}
--          status: 'send' (with the milliseconds that the login has left), 'wait' (milliseconds until allowed),
--                  'spent' (no more mails for this login), 'gone', 'other' (another browser's)
local browser, sealed, request, data, sent, sends, op =
  unpack(redis.call('HMGET', KEYS[1], 'browser', 'sealed', 'request', 'data', 'sent', 'sends', 'resend_op'))
if not sealed then
  return {'gone', 0, false, false, false, 0}
end
if browser ~= ARGV[1] then
  return {'other', 0, false, false, false, 0}
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local left = redis.call('PTTL', KEYS[1])
sends = tonumber(sends or '1')
if op == ARGV[4] then
  return {'send', left, request, data, sealed, sends}
end
local since = now - tonumber(sent)
if since < tonumber(ARGV[2]) then
  return {'wait', tonumber(ARGV[2]) - since, request, data, false, sends}
end
if sends >= tonumber(ARGV[3]) then
  return {'spent', 0, request, data, false, sends}
end
redis.call('HSET', KEYS[1], 'sent', now, 'sends', sends + 1, 'resend_op', ARGV[4])
return {'send', left, request, data, sealed, sends + 1}
