"""Run a night: stages, outcomes, retries."""
