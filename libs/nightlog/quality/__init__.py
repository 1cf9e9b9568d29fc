"""Expectations, gates, quarantine."""
