"""Realtime conversations at `/v1/realtime`: OpenAI's events over a WebSocket.

`door` lets a client in and `channel` carries events to it, bounded; `session`
is one client's actor: it obeys the client's events (`bodies`) and the ears
(`ears`), and runs one response at a time (`response`). `items`, `settings`,
`clauses`, `timeline` and `events` are values and pure functions. Speech itself
is computed elsewhere, see `services.gateway.speech`.
"""
