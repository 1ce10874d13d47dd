"""Spoken turns, end to end; see `__main__`."""
