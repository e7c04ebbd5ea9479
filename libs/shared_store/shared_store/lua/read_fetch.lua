-- read_fetch: read a cached document.
-- KEYS[1]  fetch key
-- returns  {document or false, failure or false, milliseconds for which it is still fresh, milliseconds it is kept}
--          or false where there is nothing
local fields = redis.pcall('HMGET', KEYS[1], 'document', 'failure', 'stale')
if fields.err then
  -- Of another type: nothing that was cached. It goes, so that what is fetched can be written.
  redis.call('DEL', KEYS[1])
  return false
end
local document, failure, stale = unpack(fields)
if not document and not failure then
  return false
end
local left = redis.call('PTTL', KEYS[1])
return {document, failure, left - (tonumber(stale or '0') or 0), left}
