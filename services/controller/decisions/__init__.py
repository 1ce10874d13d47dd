"""One decision, how it is written down, and how it is revised while it runs."""
