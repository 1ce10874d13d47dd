"""What decides: the learned policies and the bounds they keep."""
