"""What the programs of a night import and what takes seconds, for the server that they are forked from."""

import importlib
import sys

# A server has no file of its own, and Spark takes such a process for one that runs its doctests.
sys.modules["__main__"].__dict__.setdefault("__file__", "forkserver")

for name in (
    "deltalake",
    "duckdb",
    "great_expectations",
    "openai",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pyspark.sql",
    "sentence_transformers",
    "nightlog.cli",
    "nightlog.detector.scoring",
    "nightlog.distillation.retrain",
    "nightlog.encoding.encoder",
    "nightlog.llm.judge",
    "nightlog.parsing.parse",
    "nightlog.reporting.page",
    "nightlog.reporting.publish",
    "nightlog.routing.router",
):
    importlib.import_module(name)
