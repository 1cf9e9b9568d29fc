"""Read the log files of a night."""
