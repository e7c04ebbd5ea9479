-- read_fetch: read a cached document.
-- KEYS[1]  fetch key
-- returns  {document or false, failure or false, milliseconds for which it is still fresh, milliseconds it is kept}
--          or false where there is nothing
local document, failure, stale = unpack(redis.call('HMGET', KEYS[1], 'document', 'failure', 'stale'))
if not document and not failure then
  return false
end
local left = redis.call('PTTL', KEYS[1])
return {document, failure, left - tonumber(stale or '0'), left}
