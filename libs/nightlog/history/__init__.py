"""The history detector: scores a session by how unlike its own system it is, and by its wording and log level. No labels, no LLM."""
