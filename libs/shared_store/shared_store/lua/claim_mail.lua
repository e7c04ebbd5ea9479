-- claim_mail: fill a worker's hand and give it the jobs that it does not know to have.
-- KEYS[1]  ready    KEYS[2]  taken by this worker    KEYS[3]  jobs    KEYS[4]  leases    KEYS[5]  deaths
-- ARGV[1]  worker
-- ARGV[2]  jobs the worker may have in hand
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
local room = tonumber(ARGV[2]) - redis.call('LLEN', KEYS[2])
for _ = 1, room do
  -- Not LMOVE: a full server lets a script that has removed something go on writing.
  local id = redis.call('RPOP', KEYS[1])
  if not id then
    break
  end
  redis.call('LPUSH', KEYS[2], id)
end
local news = {}
local hand = redis.call('LRANGE', KEYS[2], 0, -1)
for i = #hand, 1, -1 do
  local id = hand[i]
  if not known[id] then
    table.insert(news, id)
    table.insert(news, redis.call('HGET', KEYS[3], id))
    table.insert(news, tonumber(redis.call('HGET', KEYS[5], id) or '0') or 0)
  end
end
local time = redis.call('TIME')
return {tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), news}
