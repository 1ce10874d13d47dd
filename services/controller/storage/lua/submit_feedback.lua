-- Stores one piece of feedback and its event, or tells what was stored before.
--
-- KEYS  1 feedback record  2 decision  3 events  4 hint flag  5 tenant's schedule
-- ARGV  1 content  2 event  3 seconds to keep  4 tenant  5 most events waiting
--       6 most feedback a decision  7 seconds a hint counts as under way
--       8 most feedback of a tenant a minute (0: no bound)
-- Returns {status, applied version, hint wanted}; for `flooded` the wait in us
-- stands in place of the version. The bound is services.controller.flood.
local stored = redis.call('HMGET', KEYS[1], 'content', 'applied')
if stored[1] then
  if stored[1] ~= ARGV[1] then
    return {'conflict', '0', 0}
  end
  return {'duplicate', stored[2], 0}
end
local decision = redis.call('HMGET', KEYS[2], 'tenant', 'record', 'judged')
if not decision[2] or decision[1] ~= ARGV[4] then
  return {'unknown', '0', 0}
end
if redis.call('XLEN', KEYS[3]) >= tonumber(ARGV[5]) then
  return {'full', '0', 0}
end
if tonumber(decision[3] or '0') >= tonumber(ARGV[6]) then
  return {'judged', '0', 0}
end
local rate = tonumber(ARGV[8])
if rate > 0 then
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local each = math.floor(60000000 / rate)
  local begins = math.max(tonumber(redis.call('GET', KEYS[5]) or '0'), now)
  local wait = begins + each - 60000000 - now
  if wait > 0 then
    return {'flooded', string.format('%d', wait), 0}
  end
  redis.call('SET', KEYS[5], string.format('%d', begins + each), 'EX', 120)
end
redis.call('HSET', KEYS[1], 'content', ARGV[1], 'applied', '0')
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('HINCRBY', KEYS[2], 'judged', 1)
redis.call('XADD', KEYS[3], '*', 'kind', 'feedback', 'body', ARGV[2], 'decision', decision[2])
local hint = redis.call('SET', KEYS[4], '1', 'NX', 'EX', ARGV[7])
return {'stored', '0', hint and 1 or 0}
