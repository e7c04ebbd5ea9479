-- read_fetch: read a cached document.
-- KEYS[1]  fetch key
-- ARGV[1]  octets that a document or failure has at most
-- returns  {document or false, failure or false, milliseconds for which it is still fresh, milliseconds it is kept}
--          or false where there is nothing
local fields = redis.pcall('HMGET', KEYS[1], 'document', 'failure', 'stale')
if fields.err and not fields.err:find('WRONGTYPE') then
  return fields
end
local document, failure, stale = unpack(fields)
local longest = tonumber(ARGV[1])
if fields.err or #(document or '') > longest or #(failure or '') > longest then
  -- Nothing that was cached. It goes, so that what is fetched can be written, and is not sent to every login.
  redis.call('DEL', KEYS[1])
  return false
end
if not document and not failure then
  return false
end
local left = redis.call('PTTL', KEYS[1])
return {document, failure, left - (tonumber(stale or '0') or 0), left}
