"""MetaProto: log anomaly detection by meta-learning and a prototypical network (arXiv 2601.14336)."""
