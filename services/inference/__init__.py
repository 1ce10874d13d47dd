"""The room that decodes: one engine, one model, many sequences.

`models` turns a file into a network and a tokenizer, `kernels` holds the
arithmetic behind one door, and the engine drives both step by step. Nothing
below `models` and `kernels` knows of requests, sampling or the wire.
"""
