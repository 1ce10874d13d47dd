"""The command `thermesh`: one module a command, and the supervisor that `up` runs."""
