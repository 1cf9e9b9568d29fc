"""The Delta tables: specs, slice writes, reads."""
