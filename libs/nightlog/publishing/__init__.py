"""Decide, collect evidence, publish."""
