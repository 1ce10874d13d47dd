-- Makes a version live, unless another one was made live meanwhile.
--
-- KEYS  1 live  2 the new version  3 the version that is dropped for it
-- ARGV  1 expected live version (0: none yet)  2 new version  3 its JSON
--       4 channel that tells of changes
-- Returns 1, or 0 where the expectation did not hold.
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[1], 'version', ARGV[2])
redis.call('PUBLISH', ARGV[4], ARGV[2])
return 1
