"""Nightlog: a nightly batch job that finds anomalies in the logs of systems that nobody has labelled."""
