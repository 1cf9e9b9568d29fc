"""Rounds of fusion: the LLM's verdicts on a system become the small model's own knowledge."""
