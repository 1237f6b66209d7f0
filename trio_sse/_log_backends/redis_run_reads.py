"""The Lua scripts that read runs in Redis; see `redis_run_scripts` for the keys."""

from __future__ import annotations

from .redis_run_scripts import COMMON

_DESCRIBE = """
local function describe(id)
  local key = run_key(id)
  local run = redis.call('HMGET', key, 'has_owner', 'owner', 'key_text', 'created_at', 'holder', 'attempt',
    'number', 'state_version', 'end', 'texts', 'size', 'starts')
  if not run[1] then return false end
  local names, lengths = {}, {}
  for n = 0, run[10] - 1 do
    names[n + 1] = redis.call('HGET', key, 'name:' .. n)
    lengths[n + 1] = redis.call('STRLEN', key .. ':' .. n)
  end
  run[10] = names
  run[13] = lengths
  run[14] = redis.call('LLEN', key .. ':e')
  return run
end
"""

#: Arguments: the reading holder, for how long a run is noted as shown; then for each run: its id, whether it
#: is shown, whether content is asked for, the version of the state, the events, the number of lengths, and
#: these.
READ = (
    COMMON
    + _DESCRIBE
    + """
local found = {}
local i = 3
while i <= #ARGV do
  local id, key = ARGV[i], run_key(ARGV[i])
  local run = describe(id)
  if run then
    if ARGV[i + 1] == '1' and run[9] == '' and run[5] ~= ARGV[1] then
      local watched = index_key('watched', run[5])
      redis.call('ZADD', watched, whole(now + ARGV[2]), id)
      extend(watched, whole(now + 86400000))
    end
    if ARGV[i + 2] == '1' then
      local pieces = {}
      for n = 1, #run[10] do
        local known = n <= tonumber(ARGV[i + 5]) and ARGV[i + 5 + n] or '0'
        pieces[n] = redis.call('GETRANGE', key .. ':' .. (n - 1), known, -1)
      end
      run[15] = pieces
      run[16] = redis.call('LRANGE', key .. ':e', ARGV[i + 4], -1)
      run[17] = run[8] ~= ARGV[i + 3] and redis.call('HGET', key, 'state')
    end
  end
  found[#found + 1] = run
  i = i + 6 + ARGV[i + 5]
end
return found
"""
)

#: Arguments: whether of one owner, the owner, how many at most.
#: Returns the newest ones, by when they are removed.
LIST = (
    COMMON
    + _DESCRIBE
    + """
local index = ARGV[1] == '1' and index_key('of', ARGV[2]) or P .. 'all'
drop_old(index)
local found = {}
for _, id in ipairs(redis.call('ZRANGE', index, '-' .. ARGV[3], -1)) do
  local run = describe(id)
  if run then found[#found + 1] = {id, run} end
end
return found
"""
)
