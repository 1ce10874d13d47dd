"""What is kept: the store as a Protocol, in Redis and in memory."""
