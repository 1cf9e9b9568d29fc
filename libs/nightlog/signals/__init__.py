"""Signals: a night that is unlike the system's own nights, with new, rare, silent or varied templates."""
