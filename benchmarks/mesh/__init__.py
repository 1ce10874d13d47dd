"""A running mesh, measured from outside."""
