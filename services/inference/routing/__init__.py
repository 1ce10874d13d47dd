"""Which heads of a model need all of a long context: `python -m services.inference.routing`.

    texts -> divergence of each head and window -> windows under a bound -> head_windows.json

After DuoAttention (Xiao et al., 2024, https://arxiv.org/abs/2410.10819), which calls
heads streaming that do with the first and the newest tokens, and retrieval heads the
others. There gates are trained; here each head is restricted alone, and the divergence
of the model's answers is measured.
"""
