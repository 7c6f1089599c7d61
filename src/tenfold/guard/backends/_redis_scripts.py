"""What has to happen at once in Redis, in Lua. Time is the server's.

Numbers of microseconds fit into Lua's doubles exactly until the year 2255.
"""

from __future__ import annotations

import hashlib


class Script:
    """A script and the name by which the server knows it once it was loaded."""

    def __init__(self, text: str) -> None:
        self.text = _CLOCK + text
        self.sha = hashlib.sha1(self.text.encode()).hexdigest()  # noqa: S324 - the name that Redis gives


_CLOCK = """
local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)
local function num(n) return string.format('%.0f', n) end
"""

TAKE = Script("""
-- KEYS: cells. ARGV: cost and room of each, in microseconds
local ahead, admitted = {}, 1
for i, key in ipairs(KEYS) do
  local cost, room = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local here = (tonumber(redis.call('GET', key) or 0) or 0) - now_us
  here = math.min(math.max(here, 0), room)
  if here + cost > room then admitted = 0 end
  ahead[i] = here
end
if admitted == 1 then
  for i, key in ipairs(KEYS) do
    ahead[i] = ahead[i] + tonumber(ARGV[2 * i - 1])
    redis.call('SET', key, num(now_us + ahead[i]), 'PX', num(math.ceil(ahead[i] / 1000)))
  end
end
return {admitted, now_us, unpack(ahead)}
""")

GIVE_BACK = Script("""
-- KEYS: cells. ARGV: of each the TAT that it must still have, and how far it moves back
local moved = 0
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[2 * i - 1] then
    local to = ARGV[2 * i - 1] - ARGV[2 * i]
    if to > now_us then
      redis.call('SET', key, num(to), 'PX', num(math.ceil((to - now_us) / 1000)))
    else
      redis.call('DEL', key)
    end
    moved = moved + 1
  end
end
return moved
""")

ACQUIRE = Script("""
-- KEYS: lease, fence. ARGV: ttl ms, life of the fence in ms
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
-- Never below the clock, so that tokens rise also when the server has lost the last one.
local token = math.max((tonumber(redis.call('GET', KEYS[2]) or 0) or 0) + 1, now_us)
redis.call('SET', KEYS[2], num(token), 'PX', ARGV[2])
redis.call('SET', KEYS[1], num(token), 'PX', ARGV[1])
return token
""")

RENEW_LEASE = Script("""
-- KEYS: lease. ARGV: token, ttl ms
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

RELEASE_LEASE = Script("""
-- KEYS: lease. ARGV: token
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""")

FIND_KEY = Script("""
-- KEYS: record
local r = redis.call('HMGET', KEYS[1], 'fingerprint', 'claim', 'lease', 'reply')
if not r[1] then return false end
return {r[1], r[2], tonumber(r[3]) - now_ms, redis.call('PTTL', KEYS[1]), r[4]}
""")

CLAIM_KEY = Script("""
-- KEYS: record. ARGV: fingerprint, claim, lease ms, keep ms
local r = redis.call('HMGET', KEYS[1], 'fingerprint', 'lease', 'reply')
if r[1] and (r[1] ~= ARGV[1] or r[3] or tonumber(r[2]) > now_ms) then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'claim', ARGV[2], 'lease', num(now_ms + ARGV[3]))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
""")

RENEW_KEY = Script("""
-- KEYS: record. ARGV: claim, lease ms. Answers the fingerprint, if the claim has the key.
local r = redis.call('HMGET', KEYS[1], 'claim', 'reply', 'fingerprint')
if r[1] ~= ARGV[1] or r[2] then return false end
redis.call('HSET', KEYS[1], 'lease', num(now_ms + ARGV[2]))
return r[3]
""")

STORE_REPLY = Script("""
-- KEYS: record. ARGV: fingerprint, claim, reply, keep ms. The effect stands, so its reply does, whoever has the key now.
if redis.call('HEXISTS', KEYS[1], 'reply') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'claim', ARGV[2], 'lease', num(now_ms), 'reply', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
""")

RELEASE_KEY = Script("""
-- KEYS: record. ARGV: claim
local r = redis.call('HMGET', KEYS[1], 'claim', 'reply')
if r[1] ~= ARGV[1] or r[2] then return 0 end
return redis.call('DEL', KEYS[1])
""")

CREATE_SESSION = Script("""
-- KEYS: session, the account's set. ARGV: hash, account, created, expires, ends, ttl ms, life of the set in ms
redis.call('HSET', KEYS[1], 'account', ARGV[2], 'created', ARGV[3], 'expires', ARGV[4], 'ends', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('SADD', KEYS[2], ARGV[1])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[7]) then redis.call('PEXPIRE', KEYS[2], ARGV[7]) end
return 1
""")

TOUCH_SESSION = Script("""
-- KEYS: session. ARGV: expires, ttl ms
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'expires', ARGV[1])
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

REVOKE_SESSION = Script("""
-- KEYS: session. ARGV: hash, what the names of accounts' sets begin with
local account = redis.call('HGET', KEYS[1], 'account')
if not account then return 0 end
redis.call('SREM', ARGV[2] .. account, ARGV[1])
return redis.call('DEL', KEYS[1])
""")

REVOKE_SESSIONS = Script("""
-- KEYS: the account's set. ARGV: what the names of sessions begin with
for _, hash in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('DEL', ARGV[1] .. hash) end
return redis.call('DEL', KEYS[1])
""")

ALL = tuple(value for value in list(globals().values()) if isinstance(value, Script))
