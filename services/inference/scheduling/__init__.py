"""Which sequences compute what in the next step, on which pages."""
