-- Takes a text off its shelf, as `keep.lua` put it there.
--
-- KEYS: the text, the shelf, the bytes on it.
-- Returns: 1 where there was one, 0 otherwise.

local size = redis.call('STRLEN', KEYS[1])
if size == 0 then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], size .. ':' .. KEYS[1])
redis.call('DECRBY', KEYS[3], size)
return 1
