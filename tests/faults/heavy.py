"""What all programs of a night import, for the server that they are forked from."""

import importlib

import light  # noqa: F401

for name in (
    "duckdb",
    "openai",
    "sentence_transformers",
    "nightlog.cli",
    "nightlog.detector.scoring",
    "nightlog.distillation.retrain",
    "nightlog.encoding.encoder",
    "nightlog.llm.judge",
    "nightlog.pages.page",
    "nightlog.publishing.publish",
    "nightlog.routing.router",
):
    importlib.import_module(name)
