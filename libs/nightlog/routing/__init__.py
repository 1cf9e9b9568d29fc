"""General or proprietary."""
