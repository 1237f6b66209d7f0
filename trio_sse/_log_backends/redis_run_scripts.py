"""The Lua scripts that store runs in Redis: Redis runs each as one step.

All keys begin with a prefix, which has a hash tag, and is the only key that is passed. `h` stands for a
holder, `o` for an owner, `i` for a run's id.

==============  ==========  ============================================================================
`run:i`         hash        the run: its fields are those of `NewRun` and `StoredRun`
`run:i:n`       string      its text number n
`run:i:e`       list        records of its events
`key:o:k`       string      the id of the run with this key
`all`           sorted set  the ids of all runs that are kept, by when they are removed
`of:o`          sorted set  the same, of one owner
`going`         sorted set  the ids of runs that are going on, by when they are removed all the same
`going:o`       sorted set  the same, of one owner
`holders`       set         holders that may have runs; the empty one has those that wait to be resumed
`lease:h`       string      exists as long as the lease of a holder
`held:h`        set         the ids of the runs that it holds
`cancels:h`     hash        why some of them are to be cancelled
`watched:h`     sorted set  those of them that others show, by until when
==============  ==========  ============================================================================
"""

from __future__ import annotations

#: What all scripts begin with.
COMMON = """
local P = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function whole(number) return string.format('%.0f', number) end
local function run_key(id) return P .. 'run:' .. id end
local function index_key(name, owner) return P .. name .. ':' .. owner end

local function expire(id, texts, at)
  local key = run_key(id)
  redis.call('PEXPIREAT', key, at)
  redis.call('PEXPIREAT', key .. ':e', at)
  for n = 0, texts - 1 do redis.call('PEXPIREAT', key .. ':' .. n, at) end
end

local function extend(key, at)  -- it is kept at least until then
  if redis.call('PTTL', key) < at - now then redis.call('PEXPIREAT', key, at) end
end

local function fit(index)  -- the index is kept as long as its last member
  local last = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')
  if last[2] then redis.call('PEXPIREAT', index, last[2]) end
end

local function let_go(id, holder)
  redis.call('SREM', index_key('held', holder), id)
  redis.call('HDEL', index_key('cancels', holder), id)
  redis.call('ZREM', index_key('watched', holder), id)
  if redis.call('EXISTS', index_key('held', holder)) == 0 then redis.call('SREM', P .. 'holders', holder) end
end

local function hold(id, holder, at)
  redis.call('SADD', P .. 'holders', holder)
  redis.call('SADD', index_key('held', holder), id)
  extend(P .. 'holders', at)
  extend(index_key('held', holder), at)
end

local function renew(holder, milliseconds)
  redis.call('SET', index_key('lease', holder), '1', 'PX', milliseconds)
end

local function finish(id, holder, text)
  local key = run_key(id)
  local run = redis.call('HMGET', key, 'ttl', 'texts', 'owner', 'key', 'has_owner')
  local at = whole(now + run[1])
  redis.call('HSET', key, 'end', text)
  redis.call('HDEL', key, 'checkpoint', 'arguments')
  expire(id, tonumber(run[2]), at)
  let_go(id, holder)
  local indexes, going = {P .. 'all'}, {P .. 'going'}
  if run[5] == '1' then
    indexes[2], going[2] = index_key('of', run[3]), index_key('going', run[3])
  end
  for n = 1, #indexes do
    redis.call('ZREM', going[n], id)
    fit(going[n])
    redis.call('ZADD', indexes[n], at, id)
    fit(indexes[n])
  end
  if run[4] ~= '' then redis.call('PEXPIREAT', run[4], at) end
end

local function drop_old(key) redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now)) end
"""

#: Arguments: the holder and its lease; the id, whether there is an owner, the owner, the digest of owner and
#: key or nothing, the time of creation, for how long it may be kept, the ttl; whether it can be resumed, the
#: function, the arguments, the attempts; the two bounds, or nothing; the key; the
#: starts of attempts.
#: Returns the id, or false and which bound is reached.
CREATE = (
    COMMON
    + """
local holder, lease, id, has_owner, owner, name = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local key = run_key(id)
if redis.call('EXISTS', key) == 1 then return {id} end
if name ~= '' then
  name = P .. 'key:' .. name
  local known = redis.call('GET', name)
  if known and redis.call('EXISTS', run_key(known)) == 1 then return {known} end
end
drop_old(P .. 'all')
drop_old(P .. 'going')
if ARGV[14] ~= '' and redis.call('ZCARD', P .. 'going') >= tonumber(ARGV[14]) then return {false, 'all'} end
if has_owner == '1' then
  drop_old(index_key('going', owner))
  drop_old(index_key('of', owner))
  if ARGV[15] ~= '' and redis.call('ZCARD', index_key('going', owner)) >= tonumber(ARGV[15]) then
    return {false, 'owner'}
  end
end
local at = whole(now + ARGV[8])
redis.call('HSET', key, 'has_owner', has_owner, 'owner', owner, 'key', name, 'created_at', ARGV[7],
  'until', at, 'ttl', ARGV[9], 'holder', holder, 'attempt', 1, 'number', 0, 'texts', 0, 'state_version', 0,
  'end', '', 'size', 0, 'key_text', ARGV[16], 'starts', ARGV[17])
if ARGV[10] == '1' then
  redis.call('HSET', key, 'function', ARGV[11], 'arguments', ARGV[12], 'attempts', ARGV[13])
end
redis.call('PEXPIREAT', key, at)
if name ~= '' then
  redis.call('SET', name, id)
  redis.call('PEXPIREAT', name, at)
end
for _, index in ipairs({P .. 'all', P .. 'going'}) do
  redis.call('ZADD', index, at, id)
  fit(index)
end
if has_owner == '1' then
  for _, index in ipairs({index_key('of', owner), index_key('going', owner)}) do
    redis.call('ZADD', index, at, id)
    fit(index)
  end
end
hold(id, holder, at)
renew(holder, lease)
return {id}
"""
)

#: Arguments: the holder, its lease; then for each run: the id, attempt, number before, number, version of the
#: state or 0, state, whether there is a checkpoint, checkpoint, whether there is an end, end, whether it is
#: released: 1 or, if the attempt counts, 2; its size, the number of pieces with the texts' numbers, names and
#: bytes, the number of events
#: and these.
#: Returns for each run what has become of it.
COMMIT = (
    COMMON
    + """
local holder = ARGV[1]
renew(holder, ARGV[2])
local outcomes = {}
local i = 3
while i <= #ARGV do
  local id, attempt, number = ARGV[i], ARGV[i + 1], ARGV[i + 3]
  local key = run_key(id)
  local pieces = i + 13
  local events = pieces + 3 * ARGV[i + 12] + 1
  local stop = events + ARGV[events - 1]
  local run = redis.call('HMGET', key, 'holder', 'attempt', 'number', 'end', 'texts', 'until')
  local is_mine = run[1] == holder and run[2] == attempt
  local was_released = ARGV[i + 10] ~= '0' and run[1] == '' and run[2] == attempt and run[3] == number
  local outcome
  if not run[1] then
    outcome = 'missing'
  elseif run[4] ~= '' then
    local was_ended = run[2] == attempt and run[3] == number and run[4] == ARGV[i + 9]
    outcome = was_ended and 'stored' or 'lost'
  elseif was_released or is_mine and run[3] == number then
    outcome = 'stored'  -- by an earlier call, whose reply was lost
  elseif not is_mine then
    outcome = 'lost'
  elseif run[3] ~= ARGV[i + 2] then
    outcome = 'behind'
  else
    outcome = 'stored'
    local texts = tonumber(run[5])
    for n = pieces, events - 2, 3 do
      local text = key .. ':' .. ARGV[n]
      redis.call('APPEND', text, ARGV[n + 2])
      if tonumber(ARGV[n]) >= texts then
        texts = tonumber(ARGV[n]) + 1
        redis.call('HSET', key, 'name:' .. ARGV[n], ARGV[n + 1])
        redis.call('PEXPIREAT', text, run[6])
      end
    end
    for n = events, stop - 1 do
      if redis.call('RPUSH', key .. ':e', ARGV[n]) == 1 then redis.call('PEXPIREAT', key .. ':e', run[6]) end
    end
    redis.call('HSET', key, 'number', number, 'texts', texts, 'size', ARGV[i + 11])
    if ARGV[i + 4] ~= '0' then redis.call('HSET', key, 'state_version', ARGV[i + 4], 'state', ARGV[i + 5]) end
    if ARGV[i + 6] == '1' then redis.call('HSET', key, 'checkpoint', ARGV[i + 7]) end
    if redis.call('ZSCORE', index_key('watched', holder), id) then
      if tonumber(redis.call('ZSCORE', index_key('watched', holder), id)) > now then outcome = 'watched' end
    end
    if ARGV[i + 8] == '1' then
      finish(id, holder, ARGV[i + 9])
    elseif ARGV[i + 10] ~= '0' then
      let_go(id, holder)
      redis.call('HSET', key, 'holder', '')
      if ARGV[i + 10] == '1' then redis.call('HINCRBY', key, 'attempts', 1) end  -- this one does not count
      hold(id, '', run[6])
    end
  end
  outcomes[#outcomes + 1] = outcome
  i = stop
end
return outcomes
"""
)

#: Arguments: the holder, its lease, or 0 to end it.
#: Returns what it holds, what is to be cancelled, and what is watched.
HOLD_RUNS = (
    COMMON
    + """
local holder = ARGV[1]
local held = redis.call('SMEMBERS', index_key('held', holder))
if ARGV[2] == '0' then
  redis.call('DEL', index_key('lease', holder))
  if #held == 0 then
    redis.call('SREM', P .. 'holders', holder)
    redis.call('DEL', index_key('cancels', holder), index_key('watched', holder))
  end
  return {held, {}, {}}
end
renew(holder, ARGV[2])
local watched = index_key('watched', holder)
redis.call('ZREMRANGEBYSCORE', watched, '-inf', whole(now))
return {held, redis.call('HGETALL', index_key('cancels', holder)), redis.call('ZRANGE', watched, 0, -1)}
"""
)

#: Arguments: the id, the reason, the end of a run that nobody holds. Returns whether there is such a run.
CANCEL = (
    COMMON
    + """
local run = redis.call('HMGET', run_key(ARGV[1]), 'holder', 'end')
if not run[1] then return 0 end
if run[2] ~= '' then return 1 end
if run[1] == '' then
  finish(ARGV[1], '', ARGV[3])
else
  redis.call('HSET', run_key(ARGV[1]), 'cancel', ARGV[2], 'cancel_end', ARGV[3])
  redis.call('HSET', index_key('cancels', run[1]), ARGV[1], ARGV[2])
  extend(index_key('cancels', run[1]), whole(now + 86400000))
end
return 1
"""
)

#: Arguments: the holder, its lease, the end of what is lost, how many at most, whether only of those that
#: nobody holds, a name for the new attempts, and the names of functions.
#: Returns the ids of those that are lost, of each that is claimed what `ClaimedRun` has, and the ids of those
#: that are cancelled.
TAKE_OVER = (
    COMMON
    + """
local me = ARGV[1]
drop_old(P .. 'all')
drop_old(P .. 'going')
local known = {}
for n = 7, #ARGV do known[ARGV[n]] = true end
local lost, claimed, cancelled = {}, {}, {}
local left = tonumber(ARGV[4])
for _, holder in ipairs(redis.call('SMEMBERS', P .. 'holders')) do
  local is_free = holder == '' or ARGV[5] == '0' and redis.call('EXISTS', index_key('lease', holder)) == 0
  if holder ~= me and is_free then
    for _, id in ipairs(redis.call('SMEMBERS', index_key('held', holder))) do
      if left <= 0 then break end
      local key = run_key(id)
      local run = redis.call('HMGET', key, 'end', 'function', 'attempt', 'attempts', 'until', 'arguments',
        'number', 'checkpoint', 'cancel', 'cancel_end', 'starts', 'state_version', 'texts')
      if not run[1] or run[1] ~= '' then
        let_go(id, holder)
      elseif not run[2] or tonumber(run[3]) >= tonumber(run[4]) then
        left = left - 1
        finish(id, holder, run[10] or ARGV[3])
        local ended = run[10] and cancelled or lost
        ended[#ended + 1] = id
      elseif known[run[2]] then
        left = left - 1
        let_go(id, holder)
        hold(id, me, run[5])
        local start = {ARGV[6], redis.call('LLEN', key .. ':e'), run[12]}
        for n = 0, run[13] - 1 do start[#start + 1] = redis.call('STRLEN', key .. ':' .. n) end
        local starts = (run[11] or '') .. table.concat(start, '-') .. ' '
        redis.call('HSET', key, 'holder', me, 'attempt', run[3] + 1, 'starts', starts)
        claimed[#claimed + 1] = {id, run[2], run[6], run[3] + 1, run[7], run[8] or false, run[5] - now,
          run[9] or false}
      elseif holder ~= '' then
        let_go(id, holder)
        redis.call('HSET', key, 'holder', '')
        hold(id, '', run[5])
      end
    end
    if redis.call('SCARD', index_key('held', holder)) == 0 then
      redis.call('SREM', P .. 'holders', holder)
      redis.call('DEL', index_key('cancels', holder), index_key('watched', holder))
    end
  end
end
if #claimed > 0 then renew(me, ARGV[2]) end
return {lost, claimed, cancelled}
"""
)

#: Arguments: the holder, the id.
FORGET = (
    COMMON
    + """
local key = run_key(ARGV[2])
local run = redis.call('HMGET', key, 'holder', 'number', 'owner', 'key', 'has_owner')
if run[1] ~= ARGV[1] or run[2] ~= '0' then return 0 end
let_go(ARGV[2], ARGV[1])
redis.call('ZREM', P .. 'all', ARGV[2])
redis.call('ZREM', P .. 'going', ARGV[2])
if run[5] == '1' then
  redis.call('ZREM', index_key('of', run[3]), ARGV[2])
  redis.call('ZREM', index_key('going', run[3]), ARGV[2])
end
if run[4] ~= '' then redis.call('DEL', run[4]) end
redis.call('DEL', key)
return 1
"""
)
