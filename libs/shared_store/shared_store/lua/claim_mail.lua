-- claim_mail: fill a worker's hand and give it the jobs that it does not know to have.
-- KEYS[1]  ready    KEYS[2]  taken by this worker    KEYS[3]  jobs    KEYS[4]  leases    KEYS[5]  deaths
-- ARGV[1]  worker
-- ARGV[2]  how many jobs that it does not know of it has room for
-- ARGV[3…] ids it knows to have in hand
-- returns  {server's time in ms, {id, job, deaths, id, job, deaths, …}}, who waited longest first, or false where the worker's lease is gone
-- Sent again after a lost reply it gives the same jobs again: what is in hand, less what the worker knows of.
if not redis.call('ZSCORE', KEYS[4], ARGV[1]) then
  return false
end
local known = {}
for i = 3, #ARGV do
  known[ARGV[i]] = true
end
local news = {}
for _, id in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  if not known[id] then
    table.insert(news, 1, id)
  end
end
for _ = #news + 1, tonumber(ARGV[2]) do
  -- Not LMOVE: a full server lets a script that has removed something go on writing.
  local id = redis.call('RPOP', KEYS[1])
  if not id then
    break
  end
  redis.call('LPUSH', KEYS[2], id)
  table.insert(news, id)
end
local told = {}
for _, id in ipairs(news) do
  table.insert(told, id)
  table.insert(told, redis.call('HGET', KEYS[3], id))
  table.insert(told, tonumber(redis.call('HGET', KEYS[5], id) or '0'))
end
local time = redis.call('TIME')
return {tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), told}
