-- The learner's one write: everything a batch of events led to, or nothing.
--
-- KEYS  1 live  2 learner  3 waiting entries  4 their order  5 events
--       6 the new version  7 the version that is dropped for it  8 rollout
--       9.. feedback records that were applied
-- ARGV  1 expected live version  2 expected applied event  3 new live version
--       4 its JSON (empty: the version stays)  5 newly applied event
--       6 learner's JSON  7 highest number of an entry that is too old
--       8 channel that tells of changes  9 expected rollout (empty: none)
--       10 new rollout  11.. decision id, number, entry of each waiting entry
--       that changed
-- Returns 1, or 0 where version, applied event or rollout are not as expected.
local live = redis.call('HMGET', KEYS[1], 'version', 'applied')
if live[1] ~= ARGV[1] or (live[2] or '0-0') ~= ARGV[2] then
  return 0
end
if (redis.call('GET', KEYS[8]) or '') ~= ARGV[9] then
  return 0
end
if ARGV[10] ~= ARGV[9] then
  redis.call('SET', KEYS[8], ARGV[10])
end
redis.call('HSET', KEYS[1], 'version', ARGV[3], 'applied', ARGV[5])
redis.call('SET', KEYS[2], ARGV[6])
for i = 11, #ARGV, 3 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 2])
  redis.call('ZADD', KEYS[4], ARGV[i + 1], ARGV[i])
end
local old = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', ARGV[7], 'LIMIT', 0, 1000)
for _, decision_id in ipairs(old) do
  redis.call('HDEL', KEYS[3], decision_id)
  redis.call('ZREM', KEYS[4], decision_id)
end
for i = 9, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('HSET', KEYS[i], 'applied', ARGV[3])
  end
end
redis.call('XTRIM', KEYS[5], 'MINID', ARGV[5])
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[6], ARGV[4])
  redis.call('DEL', KEYS[7])
  redis.call('PUBLISH', ARGV[8], ARGV[3])
end
return 1
