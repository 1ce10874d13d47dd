"""vLLM in this process: an `Upstream` without a server in between.

    Generation -> VllmUpstream -> AsyncLLM.generate (vLLM's own process decodes)

`interface` says which calls of vLLM are used and nothing else is; `starting` is
the only module that imports vllm, when an engine is started. A machine without
vllm never notices.
"""
