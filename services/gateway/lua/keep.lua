-- Keeps a text on a shelf of bounded size, from which the oldest go first.
--
-- KEYS: the text, the shelf (its texts, as `bytes:key`, by time), the bytes on it
--       (one hash tag: one slot; the keys of what goes carry it too).
-- ARGV: the text (the same whenever its key is), how many seconds it lives, the most bytes of the shelf.

local time = redis.call('TIME')
local now, ttl = time[1] * 1000000 + time[2], tonumber(ARGV[2])

-- Who heard no answer says it again: what is there already counts once.
local more = #ARGV[1] - redis.call('STRLEN', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ttl)
redis.call('ZADD', KEYS[2], now, #ARGV[1] .. ':' .. KEYS[1])
local bytes = redis.call('INCRBY', KEYS[3], more)

local function drop(members)
  for _, member in ipairs(members) do
    local size, key = string.match(member, '^(%d+):(.*)$')
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[2], member)
    bytes = redis.call('DECRBY', KEYS[3], size)
  end
end

-- A few of those that time has taken already: each keep adds one, so that they do not pile up.
drop(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ttl * 1000000, 'LIMIT', 0, 16))
local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)
while bytes > tonumber(ARGV[3]) and oldest[1] do
  drop(oldest)
  oldest = redis.call('ZRANGE', KEYS[2], 0, 0)
end
redis.call('EXPIRE', KEYS[2], ttl)
redis.call('EXPIRE', KEYS[3], ttl)
return bytes
