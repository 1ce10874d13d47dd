-- Stores one outcome and its event, once for each decision.
--
-- KEYS  1 outcome  2 decision  3 events  4 hint flag
-- ARGV  1 outcome  2 event  3 seconds to keep  4 most events waiting
--       5 seconds a hint counts as under way
-- Returns {status, hint wanted}: the learner is only called where feedback
-- waits for this outcome.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {'duplicate', 0}
end
if redis.call('XLEN', KEYS[3]) >= tonumber(ARGV[4]) then
  return {'full', 0}
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('XADD', KEYS[3], '*', 'kind', 'outcome', 'body', ARGV[2])
if not redis.call('HGET', KEYS[2], 'judged') then
  return {'stored', 0}
end
local hint = redis.call('SET', KEYS[4], '1', 'NX', 'EX', ARGV[5])
return {'stored', hint and 1 or 0}
