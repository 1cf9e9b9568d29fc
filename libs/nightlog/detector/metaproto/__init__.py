"""MetaProto, arXiv 2601.14336: drift labels, MAML and prototypes, on the channels of the history."""
