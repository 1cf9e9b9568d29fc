"""The small model: network, training, scoring, registry."""
