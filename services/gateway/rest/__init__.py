"""The REST door: an OpenAI-compatible bridge with SSE, and the operator's endpoints.

`fields` and `bodies` say what may be asked (they are the OpenAPI schema), `asks`
turns a body into an ask, `answers` turns events into OpenAI's JSON, `streaming`
writes them while watching for a client that leaves, `problems` writes errors,
`middleware` guards what comes in; `app` puts it together.
"""
