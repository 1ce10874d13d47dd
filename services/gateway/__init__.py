"""The gateway: the doors of the mesh (REST with SSE, native gRPC) and what joins its rooms.

    request --> rest/ or server.py     translate and check (limits)
            --> turnstile              room for one more, or ResourceExhausted at once
            --> pipeline               Generate opens at once; Extract, then Decide meanwhile;
                                       the plan follows as second message (planning: or the
                                       last good one), tokens are relayed as they come
            --> mesh, wire             the neighbours over gRPC, and the way into their words

Decoding never waits for the mesh and nothing here is unbounded.
"""
