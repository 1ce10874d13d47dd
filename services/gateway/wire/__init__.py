"""Protobuf messages to values and back; the only place of this room where both are in scope.

Split by what is spoken of: `sampling` (how tokens are drawn), `requests` (what
goes to the neighbours), `events` (what comes back), `catalog` (feedback, models,
policies) and `chat` (the native door).
"""
