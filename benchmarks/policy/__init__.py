"""The study of decoding policies on verifiable tasks: prompts, reward matrix, replay, report."""
