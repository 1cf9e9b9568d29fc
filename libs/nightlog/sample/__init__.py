"""The recorded corpus of the demo, and its recorder."""
