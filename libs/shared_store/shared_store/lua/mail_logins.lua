-- mail_logins: what scripts of the mail queue share: which jobs are of one login, and that one at a time is sent.
-- A job's id begins with its login's digest, 32 hex digits and a dash; an id without that is of no login.
-- The hash `logins` has, by digest, the id of the job that is in line, delayed or in a worker's hand; after a blank,
-- while that is in hand, the id of a newer one that waits until it is not.
local function login_of(id)
  local digest = string.match(id, '^(%x+)%-')
  if digest and #digest == 32 then
    return digest
  end
end

-- Gives a login's job and the newer one behind it; nothing where no job of this login is in the queue.
local function jobs_of(logins, login)
  local entry = login and redis.call('HGET', logins, login)
  if entry then
    return string.match(entry, '^(%S+) ?(%S*)$')
  end
end

-- A job leaves the queue: gives the newer one that waited behind it, which then has to be put in line.
local function leave(logins, id)
  local login = login_of(id)
  local first, newer = jobs_of(logins, login)
  if first ~= id then
    return
  end
  if newer ~= '' then
    redis.call('HSET', logins, login, newer)
    return newer
  end
  redis.call('HDEL', logins, login)
end

-- One job takes another's place: what is kept of the older goes, but how many workers died of it.
local function replace(jobs, deaths, older, newer)
  redis.call('HDEL', jobs, older)
  local died = redis.call('HGET', deaths, older)
  if died then
    redis.call('HDEL', deaths, older)
    redis.call('HSET', deaths, newer, died)
  end
end

-- A job goes from a worker's hand back into the queue: gives the id to put there, which is a newer one's if there is one.
local function newest(logins, jobs, deaths, id)
  local login = login_of(id)
  local first, newer = jobs_of(logins, login)
  if first ~= id or newer == '' then
    return id
  end
  redis.call('HSET', logins, login, newer)
  replace(jobs, deaths, id, newer)
  return newer
end

