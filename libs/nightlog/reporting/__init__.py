"""What analysts see: the anomaly tables."""
