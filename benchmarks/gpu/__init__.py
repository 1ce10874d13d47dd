"""`make gpu-check`: the Triton kernels on a real device, and what they are worth there.

Needs torch, triton and numpy, and nothing of the mesh: no gRPC, no network.
"""
