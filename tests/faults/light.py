"""What ingest and parse import and what takes seconds, for the server that programs are forked from."""

import importlib
import sys

# A server has no file of its own, and Spark takes such a process for one that runs its doctests.
sys.modules["__main__"].__dict__.setdefault("__file__", "forkserver")

for name in ("deltalake", "great_expectations", "pandas", "pyarrow.dataset", "pyarrow.parquet", "pyspark.sql", "nightlog.parsing.parse"):
    importlib.import_module(name)
