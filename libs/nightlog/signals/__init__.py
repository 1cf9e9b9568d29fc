"""What is unlike the system's own nights, whatever any session is like: new, rare, silent and varied templates."""
