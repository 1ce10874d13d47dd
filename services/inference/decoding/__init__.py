"""One step after another: schedule, compute, draw."""
