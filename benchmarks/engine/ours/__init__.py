"""Thermesh's engine as a contender, and what only it is asked."""
