-- Keep a durable publication in its topic's stream and hand it to those who listen, as one.
-- KEYS: 1 the stream, 2 the channel
-- ARGV: 1 the envelope, 2 entries to keep, about, 3 milliseconds to keep the stream, 4 publish or spublish
redis.call('xadd', KEYS[1], 'maxlen', '~', ARGV[2], '*', 'e', ARGV[1])
redis.call('pexpire', KEYS[1], ARGV[3])
return redis.call(ARGV[4], KEYS[2], ARGV[1])
