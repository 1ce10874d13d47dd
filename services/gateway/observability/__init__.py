"""What the gateway tells of its requests: to metrics, to logs, to an operator."""
