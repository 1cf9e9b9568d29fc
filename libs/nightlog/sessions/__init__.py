"""Group events into sessions and patterns."""
