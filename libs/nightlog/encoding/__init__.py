"""Template text → vectors."""
