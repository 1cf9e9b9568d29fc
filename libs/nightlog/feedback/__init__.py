"""Store and use what analysts answer."""
