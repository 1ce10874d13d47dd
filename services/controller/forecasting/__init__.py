"""What a request will cost, told before its first token."""
