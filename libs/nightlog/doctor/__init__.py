"""`nightlog doctor`: looks at everything that a night needs, changes nothing, and says what to do."""
