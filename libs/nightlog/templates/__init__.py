"""Mine templates from masked messages."""
