"""The neighbours of the gateway over gRPC: one channel each, short timeouts, breakers, counters.

`peer` holds what all neighbours share, `neighbours` all of them; `feature`, `controller`
and `inference` are the links that the pipeline's Protocols ask for. With `wire/`, `server.py`
and `__main__.py` the only modules of this room that know gRPC.
"""
