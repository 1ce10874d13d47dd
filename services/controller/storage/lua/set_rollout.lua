-- Stores a trial of a candidate, unless another one was stored meanwhile.
--
-- KEYS  1 rollout  2 the version on trial  3 its copy, which outlives old versions
-- ARGV  1 expected JSON (empty: none yet)  2 new JSON  3 channel that tells of changes
-- Returns 1, or 0 where the expectation did not hold.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
local candidate = redis.call('GET', KEYS[2])
if candidate then
  redis.call('SET', KEYS[3], candidate)
end
redis.call('PUBLISH', ARGV[3], 'rollout')
return 1
