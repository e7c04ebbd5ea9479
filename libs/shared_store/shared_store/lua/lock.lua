-- lock: take, extend or release a lock.
-- KEYS[1]  lock key
-- ARGV[1]  'take', 'extend' or 'release'
-- ARGV[2]  the holder's token
-- ARGV[3]  life, milliseconds (take, extend)
-- ARGV[4]  channel on which a release is told (release)
-- returns  1 where the holder has it now (take, extend) or had it (release), else 0
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'table' and not holder.err:find('WRONGTYPE') then
  return holder -- who may not read it must not take it from another
end
-- What is no string, or would never end, is not ours: a lock that nobody can release must not stop the work for ever.
local is_held = type(holder) == 'string' and redis.call('PTTL', KEYS[1]) ~= -1
if ARGV[1] == 'take' and not is_held then
  -- A deletion first: a full server lets a script that has deleted go on writing, and reaping needs a lock.
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
if holder ~= ARGV[2] then
  return 0
end
if ARGV[1] == 'release' then
  redis.call('DEL', KEYS[1])
  redis.call('PUBLISH', ARGV[4], KEYS[1])
  return 1
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
