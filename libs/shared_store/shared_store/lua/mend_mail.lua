-- mend_mail: remove what is of another type than belongs there, and put jobs that were in its line back into one.
-- KEYS[1]  ready    KEYS[2]  delayed    KEYS[3]  jobs    KEYS[4]  deaths    KEYS[5]  logins    KEYS[6]  leases
-- KEYS[7]  gone    KEYS[8]  dead    KEYS[9…]  the workers' hands
-- ARGV     the names of these workers
-- returns  {the keys that were removed}, how many jobs were put back; false where there are other workers by now
local kinds = {'list', 'zset', 'hash', 'hash', 'hash', 'zset', 'zset', 'list'}
local junk, is_junk = {}, {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key)['ok']
  if kind ~= 'none' and kind ~= (kinds[i] or 'list') then
    table.insert(junk, key)
    is_junk[i] = true
  end
end
local named = {}
for _, name in ipairs(ARGV) do
  named[name] = true
end
for i = 6, 7 do
  for _, name in ipairs(is_junk[i] and {} or redis.call('ZRANGE', KEYS[i], 0, -1)) do
    if not named[name] then
      return false
    end
  end
end
for _, key in ipairs(junk) do
  redis.call('DEL', key)
end
-- Where it is not known which workers there are, they give back themselves what they have in hand.
if #junk == 0 or is_junk[6] or is_junk[7] then
  return {junk, 0}
end
local placed = {}
local function place(ids)
  for _, id in ipairs(ids) do
    placed[id] = true
  end
end
place(redis.call('LRANGE', KEYS[1], 0, -1))
place(redis.call('ZRANGE', KEYS[2], 0, -1))
for i = 9, #KEYS do
  place(redis.call('LRANGE', KEYS[i], 0, -1))
end
local logins = redis.call('HGETALL', KEYS[5])
for i = 2, #logins, 2 do
  local newer = string.match(logins[i], '^%S+ (%S+)$')
  if newer then
    placed[newer] = true
  end
end
local lost = 0
for _, id in ipairs(redis.call('HKEYS', KEYS[3])) do
  if not placed[id] then
    redis.call('RPUSH', KEYS[1], id)
    lost = lost + 1
  end
end
return {junk, lost}
