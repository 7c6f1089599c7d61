"""What has to happen at once in Redis, in Lua.

Three kinds of keys belong to a cache: *entries*, *leases* (who loads a key now) and *generations*, one for every
name: the cache itself, a key, a tag. An entry carries the generations of its names as they were
when it was loaded, and is worth nothing as soon as one of them is another: to invalidate is to give a name a new
generation. A generation that is missing was evicted or has expired; it gets a new number, so what was stored
under the old one stays worthless.

A generation is a number of microseconds, and always larger than the one before. While a transaction that
invalidates the name is about to commit it is ``!old|token:expiry|…`` instead, with one token per transaction.

Keys are declared (KEYS) because servers before 7.2 track those for client-side caching, and no others.
"""

from __future__ import annotations

import hashlib

_COMMON = """
local MAGIC = 'tenfold1'
local function us() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end
local function num(n) return string.format('%.0f', n) end
local function read(key)
  local v = redis.pcall('GET', key)
  return type(v) == 'string' and v
end
local function is_busy(v) return v and string.sub(v, 1, 1) == '!' end
local function failed(reply) return type(reply) == 'table' and reply.err end
local function next_of(old, now) return num(math.max(now, (tonumber(old) or 0) + 1)) end
local function head_of(raw)
  local ok, at, head = pcall(cmsgpack.unpack_one, raw, 0)
  if ok and type(head) == 'table' and head[1] == MAGIC and type(head[5]) == 'table' then return at, head end
end
local function holder_of(lease) return lease and (string.match(lease, '^(%x+)|') or lease) end
local function others(v, mine, now)
  local kept, last = '', 0
  for token, ends in string.gmatch(v, '|([^:|]+):(%d+)') do
    if token ~= mine and tonumber(ends) > now then
      kept = kept .. '|' .. token .. ':' .. ends
      last = math.max(last, tonumber(ends))
    end
  end
  return kept, last
end
"""

BEGIN = """
-- KEYS: entry, lease, generations. ARGV: purpose, token, lease ms, generations' life ms, their prefix, waited
local now, purpose, stale, garbage = us(), ARGV[1], nil, 0
local raw = redis.pcall('GET', KEYS[1])
if failed(raw) then garbage = 1 end
if type(raw) == 'string' and purpose ~= 'reload' then
  local at, head = head_of(raw)
  if not head then
    garbage = 1
  else
    local keys, valid = {}, true
    for i, name in ipairs(head[4]) do keys[i] = ARGV[5] .. name end
    local gens = redis.call('MGET', unpack(keys))
    for i, gen in ipairs(gens) do valid = valid and gen and tonumber(gen) == head[5][i] end
    if valid then
      local left = redis.call('PTTL', KEYS[1])
      local found = {'found', at, left, num(now - head[2]), raw}
      if left > head[3] or purpose ~= 'refresh' then return found end
      stale = found
    end
  end
end
if purpose == 'look' then return {'none', garbage} end
local gens, made = redis.call('MGET', unpack(KEYS, 3)), false
for i, gen in ipairs(gens) do
  if is_busy(gen) then return stale or {'busy', garbage} end
  if not (gen and tonumber(gen)) then
    local set = redis.pcall('SET', KEYS[i + 2], num(now), 'PX', ARGV[4])
    if failed(set) then return {'full', garbage, set.err} end
    gens[i], made = num(now), true
  end
end
if purpose ~= 'reload' then
  -- A lease carries the generations it was taken with. Who asks after a change does not wait for a load from
  -- before it, but takes the lease over.
  local at = '|' .. table.concat(gens, '|')
  local holder = read(KEYS[2])
  if holder and holder ~= '-' and string.sub(holder, -#at) == at then
    return stale or {'wait', garbage, redis.call('PTTL', KEYS[2])}
  end
  if holder ~= '-' or ARGV[6] == '0' then
    local set = redis.pcall('SET', KEYS[2], ARGV[2] .. at, 'PX', ARGV[3])
    if failed(set) then return {'full', garbage, set.err} end
  end
end
if made then redis.call('MGET', unpack(KEYS, 3)) end
return {'load', garbage, num(now), gens, stale and 1 or 0}
"""

FINISH = """
-- KEYS: entry, lease, generations. ARGV: token, opened us, known, strict, stale ms, life ms, generations' life ms,
-- shape, payload, the known generations, the names
local now, opened, known = us(), tonumber(ARGV[2]), tonumber(ARGV[3])
local mine = holder_of(read(KEYS[2])) == ARGV[1]
local function release() if mine then redis.call('DEL', KEYS[2]) end end
if ARGV[8] == '' then
  if mine and failed(redis.pcall('SET', KEYS[2], '-', 'PX', 1000)) then release() end
  return 0
end
local gens, names, made = redis.call('MGET', unpack(KEYS, 3)), {}, false
for i = 1, #gens do
  local gen = gens[i] and tonumber(gens[i])
  names[i] = ARGV[9 + known + i]
  if i <= known then
    if not gen or gens[i] ~= ARGV[9 + i] then release() return 0 end
  elseif gen then
    if gen >= opened then release() return 0 end
  else
    if gens[i] then release() return 0 end
    redis.call('SET', KEYS[i + 2], num(now), 'PX', ARGV[7])
    gen, made = now, true
    if ARGV[4] == '1' then release() return 0 end
  end
  gens[i] = gen
end
if now < opened then release() return 0 end
if not mine then
  local raw = read(KEYS[1])
  if raw then
    local _, head = head_of(raw)
    if head and head[2] > opened then return 0 end
  end
end
local head = cmsgpack.pack({MAGIC, opened, tonumber(ARGV[5]), names, gens, ARGV[8]})
local set = redis.pcall('SET', KEYS[1], head .. ARGV[9], 'PX', ARGV[6])
release()
if failed(set) then return redis.error_reply(set.err) end
if made then redis.call('MGET', unpack(KEYS, 3)) end
return 1
"""

PUT = """
-- KEYS: entry, the region's generation, the key's, the tags'. ARGV: stale ms, life ms, generations' life ms,
-- shape, payload, the names. Without a shape nothing is stored.
local now, names, gens, busy = us(), {}, {}, false
for i = 2, #KEYS do
  local gen = read(KEYS[i])
  if is_busy(gen) then
    busy = true
  elseif i == 3 or not (gen and tonumber(gen)) then
    gen = next_of(gen, now)
    redis.call('SET', KEYS[i], gen, 'PX', ARGV[3])
  end
  names[i - 1], gens[i - 1] = ARGV[4 + i], tonumber(gen)
end
if busy or ARGV[4] == '' then redis.call('DEL', KEYS[1]) return 0 end
local head = cmsgpack.pack({MAGIC, now, tonumber(ARGV[1]), names, gens, ARGV[4]})
redis.call('SET', KEYS[1], head .. ARGV[5], 'PX', ARGV[2])
redis.call('MGET', unpack(KEYS, 2))
return 1
"""

BUMP = """
-- KEYS: generations. ARGV: their life ms. What is busy gets its new generation when its transactions have ended.
-- A server that is full refuses to write; a generation that is deleted invalidates as well.
local now = us()
for _, key in ipairs(KEYS) do
  local old = read(key)
  if not is_busy(old) and failed(redis.pcall('SET', key, next_of(old, now), 'PX', ARGV[1])) then
    redis.call('DEL', key)
  end
end
return 1
"""

MARK = """
-- KEYS: generations. ARGV: token, longest life of a transaction ms
local now = math.floor(us() / 1000)
for _, key in ipairs(KEYS) do
  local old = read(key)
  local base, rest = old or '0', ''
  if is_busy(old) then
    base = string.match(old, '^!(%d*)')
    rest = others(old, ARGV[1], now)
  end
  local mark = '!' .. base .. rest .. '|' .. ARGV[1] .. ':' .. num(now + ARGV[2])
  local set = redis.pcall('SET', key, mark, 'PX', ARGV[2])
  if failed(set) then return redis.error_reply(set.err) end
end
return 1
"""

SETTLE = """
-- KEYS: generations. ARGV: token, generations' life ms
local now = us()
local ms = math.floor(now / 1000)
for _, key in ipairs(KEYS) do
  local old, kept, last = read(key), '', 0
  if is_busy(old) then
    kept, last = others(old, ARGV[1], ms)
    old = string.match(old, '^!(%d*)')
  end
  local set
  if kept ~= '' then
    set = redis.pcall('SET', key, '!' .. old .. kept, 'PX', num(last - ms))
  else
    set = redis.pcall('SET', key, next_of(old, now), 'PX', ARGV[2])
  end
  if failed(set) then redis.call('DEL', key) end
end
return 1
"""

RENEW = """
-- KEYS: leases. ARGV: lease ms, their tokens
for i, key in ipairs(KEYS) do
  if holder_of(read(key)) == ARGV[i + 1] then redis.call('PEXPIRE', key, ARGV[1]) end
end
return 1
"""


class Script:
    """A script and the digest by which the server knows it once it was loaded."""

    __slots__ = ("digest", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = _COMMON + text
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


begin, finish, put = Script("begin", BEGIN), Script("finish", FINISH), Script("put", PUT)
bump, mark, settle = Script("bump", BUMP), Script("mark", MARK), Script("settle", SETTLE)
renew = Script("renew", RENEW)
ALL = (begin, finish, put, bump, mark, settle, renew)
