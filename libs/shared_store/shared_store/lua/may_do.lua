-- may_do: tell which commands this user may send, without sending them. Redis 7.0, Valkey 7.2 and later.
-- ARGV[1…] for each command how many words it has, then the words
-- returns  for each 1 or 0; false where the server can't tell
if not redis.acl_check_cmd then
  return false
end
local answers, i = {}, 1
while i <= #ARGV do
  local count = tonumber(ARGV[i])
  -- A command that the server does not know is an error there.
  local known, allowed = pcall(redis.acl_check_cmd, unpack(ARGV, i + 1, i + count))
  table.insert(answers, known and allowed and 1 or 0)
  i = i + count + 1
end
return answers
