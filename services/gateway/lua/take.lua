-- Takes from, or gives back to, the two buckets of one tenant, in one step.
--
-- KEYS: bucket of requests, bucket of tokens (one hash tag: one slot).
-- ARGV: per minute of requests and tokens (0: no bound), requests and tokens to
--       take (requests 0: settle, which is never refused, and takes less than
--       nothing where tokens are given back), time in us (empty: this server's).
-- Returns: the wait in us (0: taken), then level and per minute of each bucket,
--       in millionths, so that no fraction is lost on the way.
--
-- A bucket holds at most one minute's worth and fills evenly. It is what
-- services.gateway.buckets.Bucket is; the conformance tests hold them together.

local now = tonumber(ARGV[5])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end

local asked_requests = tonumber(ARGV[3])
local wants = {asked_requests, tonumber(ARGV[4])}
local levels, waits = {0, 0}, {0, 0}

for i = 1, 2 do
  local rate = tonumber(ARGV[i])
  if rate > 0 then
    local kept = redis.call('HMGET', KEYS[i], 'level', 'at')
    local level, at = tonumber(kept[1]) or rate, tonumber(kept[2]) or now
    level = math.min(rate, level + math.max(0, now - at) * rate / 60000000)
    levels[i] = level
    local missing = math.min(wants[i], rate) - level
    if asked_requests > 0 and missing > 0 then
      waits[i] = math.ceil(missing * 60000000 / rate)
    end
  end
end

local wait = math.max(waits[1], waits[2])
for i = 1, 2 do
  local rate = tonumber(ARGV[i])
  if rate > 0 then
    if wait == 0 then
      levels[i] = math.min(rate, levels[i] - wants[i])
    end
    redis.call('HSET', KEYS[i], 'level', string.format('%.6f', levels[i]), 'at', string.format('%.0f', now))
    -- Full again after two minutes at most, unless in debt; then nothing is worth keeping.
    local full_in = (rate - levels[i]) * 60 / rate
    redis.call('EXPIRE', KEYS[i], math.ceil(full_in) + 60)
  end
end

return {wait, math.floor(levels[1] * 1000000), math.floor(levels[2] * 1000000), waits[1], waits[2]}
