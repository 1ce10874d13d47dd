"""Many calls of one room to another over one stream.

grpc.aio takes about half a millisecond of processor time to open and close a call, on
either side, and 30 to 60 microseconds for each message: it wakes the event loop from
another thread for every one. A trunk pays that once for whatever waits together. When
64 streams step at once, 64 tokens cross in one message; a call is two frames.

Nothing else changes: stubs and servicers are those of the contract, deadline, trace, status
and cancellation of a call are as without a trunk, and each call has a window of its own, so that
a slow reader stops its own call alone. Where no trunk is open, calls go their usual way.

Between rooms of one machine the frames go by a Unix socket beside the stream, which costs neither
side threads that wake one another (`local`).

`line` is one end of one call, `outgoing` what waits to be sent; `calling` and `serving`
are the two ends of a trunk, `method` what stubs call.
"""
