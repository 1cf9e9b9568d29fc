"""Record real programs under injected faults: the corpus that ships with Nightlog."""
