"""The Lua scripts of `RedisLog`: Redis runs each as one step.

The keys of all are the stream, the hash with the epoch and the newest entry's number, and, to append, the
publisher's last number and the sorted set of idempotency keys, by the time.
"""

from __future__ import annotations

_OPEN = """
local function is_whole(text)
  return text and #text < 16 and string.match(text, '^%d+$')
end
local state = redis.call('HMGET', KEYS[2], 'epoch', 'number')
if redis.call('EXISTS', KEYS[1]) == 0 or not is_whole(state[1]) or not is_whole(state[2]) then
  local now = redis.call('TIME')
  local epoch = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
  if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('XGROUP', 'CREATE', KEYS[1], 'made', '0', 'MKSTREAM')
    redis.call('XGROUP', 'DESTROY', KEYS[1], 'made')
    redis.call('XSETID', KEYS[1], epoch .. '-0')
  end
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'number', 0)
  state = {epoch, '0'}
end
"""

#: Returns the epoch, the newest entry's number, and where the log ends; creates the log if there is none.
TAIL = (
    _OPEN
    + """
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest then
  return {state[1], state[2], newest[1]}
end
local last = state[1] .. '-0'
if tonumber(state[2]) > 0 then  -- there were entries, which were dropped: no client's id is the end
  local information = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #information, 2 do
    if information[i] == 'last-generated-id' then
      last = information[i + 1]
    end
  end
end
return {state[1], state[2], last}
"""
)

#: Holds a lease, or renews it. The key is the lease's; arguments: the holder, and for how many milliseconds.
HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

#: Releases a lease, if the argument is its holder.
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
"""

#: Posts a notice, unless it is empty, and returns all that have not expired. The keys are a hash of notices,
#: and a sorted set of their names by the time at which they expire; arguments: name, notice, milliseconds.
EXCHANGE = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))) do
  redis.call('HDEL', KEYS[1], name)
  redis.call('ZREM', KEYS[2], name)
end
if ARGV[2] ~= '' and (redis.call('ZSCORE', KEYS[2], ARGV[1]) or redis.call('ZCARD', KEYS[2]) < 256) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[3]), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], 86400000)
  redis.call('PEXPIRE', KEYS[2], 86400000)
end
return redis.call('HGETALL', KEYS[1])
"""

#: Begins a new epoch, unless the log's is another one than the argument. Entries of the old one are kept.
RENEW = (
    _OPEN
    + """
if state[1] == ARGV[1] then
  local now = redis.call('TIME')
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  local past = last and tonumber(string.match(last[1], '^(%d+)')) or 0
  local epoch = math.max(now[1] * 1000 + math.floor(now[2] / 1000), past + 1, tonumber(ARGV[1]) + 1)
  epoch = string.format('%.0f', epoch)
  redis.call('XSETID', KEYS[1], epoch .. '-0')
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'number', 0)
end
return 1
"""
)

#: Appends records, each once. Arguments: the most entries, their age in milliseconds; the same two for keys;
#: then for each record its number, its key, which may be empty, and the record.
APPEND = (
    _OPEN
    + """
if ARGV[2] ~= '0' then  -- first, as it frees memory, which may be short
  local now = redis.call('TIME')
  local oldest = math.max(0, now[1] * 1000 + now[2] / 1000 - ARGV[2])
  redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', oldest))
end
local number = tonumber(state[2])
local last = tonumber(redis.call('GET', KEYS[3]) or '0')
local has_keys = false
local now
local stored = {}
for i = 5, #ARGV, 3 do
  local own = tonumber(ARGV[i])
  if own > last then
    last = own
    local is_new = true
    if ARGV[i + 1] ~= '' then
      if not has_keys then
        has_keys = true
        now = redis.call('TIME')
        now = now[1] * 1000 + math.floor(now[2] / 1000)
        redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', string.format('%.0f', now - ARGV[4]))
      end
      is_new = redis.call('ZADD', KEYS[4], 'NX', string.format('%.0f', now), ARGV[i + 1]) == 1
    end
    if is_new then
      number = number + 1
      redis.call('XADD', KEYS[1], '*', 'e', state[1], 'n', string.format('%.0f', number), 'd', ARGV[i + 2])
      table.insert(stored, (i - 2) / 3)
    end
  end
end
if has_keys then
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - ARGV[3])
  redis.call('PEXPIRE', KEYS[4], string.format('%.0f', ARGV[4]))
end
redis.call('HSET', KEYS[2], 'number', string.format('%.0f', number))
redis.call('SET', KEYS[3], string.format('%.0f', last), 'EX', 86400)
redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[1])
return stored
"""
)
