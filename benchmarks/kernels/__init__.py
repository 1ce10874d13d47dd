"""Implementations of the kernels beside each other, in one process."""
