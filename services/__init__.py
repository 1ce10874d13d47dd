"""The rooms of the mesh.

A request meets them in this order: gateway -> feature -> controller ->
inference, and comes back through the controller's learner, which turns outcomes
and feedback into new policy versions. Rooms meet only on the wire: none
imports another.
"""

import os

# gRPC's own handlers run in a process that forks, while its other threads go on: of speech
# processes that a busy gateway starts by uvloop, one in twenty died of them (SIGSEGV) before it
# was another program. No room forks for anything else, so none needs them. Read once, by gRPC.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
