"""Measurements of Thermesh, a folder for each thing measured.

    engine/   the engine beside the engines a user would pick instead
    kernels/  implementations of the kernels beside each other
    mesh/     a running mesh: time to first token, what each hop adds
    control/  the control loop, simulated on stored rewards
    results/  what was measured, as JSON; the tables of the docs are made from it

`machine` and `spread` beside them are for all: where a figure was taken, and
what is said of its samples.
"""

import os

# As in `services`: the clients that a bench starts beside busy gRPC threads have to start.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
