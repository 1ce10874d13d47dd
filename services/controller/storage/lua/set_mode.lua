-- Sets or removes the mode of a route.
--
-- KEYS  1 modes
-- ARGV  1 route  2 mode (empty: remove)  3 most routes  4 channel that tells of changes
-- Returns 1, or 0 where there are too many routes already.
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
elseif redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0
    and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  return 0
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('PUBLISH', ARGV[4], 'modes')
return 1
