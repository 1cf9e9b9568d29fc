"""Rounds of fusion: what the LLM said of a system becomes the small model's own knowledge."""
