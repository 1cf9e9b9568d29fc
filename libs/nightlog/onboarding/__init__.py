"""The trial of a new system: proposes its file from a sample of its lines, and shows how they parse."""
