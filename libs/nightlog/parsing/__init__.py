"""Lines → messages → templates → sessions → patterns."""
