-- Renew a node's lease, let those go that ran out, and say who is there.
-- KEYS: 1 sorted set of node ids by the end of their lease (server time, ms), 2 hash of what they say of themselves
-- ARGV: 1 the node id, 2 what it says, 3 the lease in ms; 0 gives it up
-- Returns what each node says, this one's too.
local clock = redis.call('time')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if ARGV[3] == '0' then
  redis.call('zrem', KEYS[1], ARGV[1])
  redis.call('hdel', KEYS[2], ARGV[1])
  return {}
end
redis.call('zadd', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('hset', KEYS[2], ARGV[1], ARGV[2])
local gone = redis.call('zrangebyscore', KEYS[1], '-inf', now)
for at = 1, #gone, 1000 do
  local some = {unpack(gone, at, math.min(at + 999, #gone))}
  redis.call('zrem', KEYS[1], unpack(some))
  redis.call('hdel', KEYS[2], unpack(some))
end
return redis.call('hvals', KEYS[2])
