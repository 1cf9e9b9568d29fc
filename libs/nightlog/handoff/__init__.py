"""Hand a published night to other systems."""
