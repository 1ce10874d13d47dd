"""A study of the control loop on a stored matrix of rewards: a simulation, and said so."""
