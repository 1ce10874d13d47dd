"""Which policy may decide: evidence, trials, and the way back."""
