"""The recorded corpus of the demo: logs, systems, verdicts, truth."""
