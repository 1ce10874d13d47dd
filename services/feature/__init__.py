"""feature: reads a request and tells what it is like.

A request's text becomes lexical features at once (`lexical`, pure Python) and
an `Encoding` when the encoder answers in time (`encoder`, one worker thread);
`extract` joins them with the session's topic and the voice into the vector of
`thermesh.features`. Encodings are cached by content, sessions are shared, both
in Redis and both dispensable: without Redis, or without the encoder, an answer
still leaves inside the budget.
"""
