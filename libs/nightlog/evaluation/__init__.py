"""Protocols, baselines, metrics. The only room that reads a target's labels."""
