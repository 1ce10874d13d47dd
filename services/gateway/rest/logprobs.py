"""Log-probabilities as chat completions tell them."""

from __future__ import annotations

from services.gateway.events import Token
from services.gateway.rest.sse import Json


def chat_logprob(token: Token) -> Json:
    """Return a token's log-probability, the model's own, and those of its candidates."""
    top = [_logprob(c.text, c.log_probability) for c in token.candidates]
    return {**_logprob(token.text, token.model_log_probability), "top_logprobs": top}


def _logprob(text: str, log_probability: float) -> Json:
    return {"token": text, "logprob": log_probability, "bytes": list(text.encode())}
