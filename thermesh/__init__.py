"""Thermesh: a streaming mesh that serves language models and decides how to decode.

This package is what clients and all services share; `services` are the
applications. Clients import from here only.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
