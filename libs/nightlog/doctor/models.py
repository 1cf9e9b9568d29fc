"""The models: those that serve are there, unaltered, and of this version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from nightlog.detector.header import manifest_in
from nightlog.doctor.finding import Finding, error, ok, warning
from nightlog.lake.files import half_written, read_file
from nightlog.lake.lake import Lake
from nightlog.lake.tables import MODELS

AREA = "models"
AGAIN = "restore the file from a copy of the lake, or train again: nightlog train, nightlog retrain"
IN_MANIFEST = ("encoder", "tau", "threshold", "foreign_threshold", "shape", "source_texts", "sources")


def models(lake: Lake) -> Iterator[Finding]:
    """Does a model serve, and is the file of each that serves what the registry says?"""
    rows = [row for row in lake.rows(MODELS) if row["status"] == "promoted"]
    if not any(row["system"] == "" for row in rows):
        yield error(AREA, "no model serves: a night ends at stage route", lake.root, "run `nightlog train`")
    for row in sorted(rows, key=lambda row: str(row["system"])):
        yield model(f"{lake.root}/models/{row['version']}.safetensors", row)
    if parts := half_written(f"{lake.root}/models"):
        yield warning(AREA, f"{len(parts)} half-written model files", parts[0], "remove .*.part there: a training broke off")


def model(path: str, row: dict[str, Any]) -> Finding:
    """Is a model's file there, is its digest the registry's, and does it hold tensors and a manifest that this version reads?"""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    name = f"model {row['version']} for {row['system'] or 'all systems'}"
    try:
        content = read_file(path)
    except OSError as trouble:
        return error(AREA, f"{name} cannot be read: {trouble}", path, AGAIN)
    if (digest := hashlib.sha256(content).hexdigest()) != row["sha256"]:
        return error(AREA, f"{name} was altered: sha256 {digest[:16]}…, expected {row['sha256'][:16]}…", path, AGAIN)
    try:
        n_tensors, manifest = len(load(content)), manifest_in(content)
    except (SafetensorError, ValueError) as trouble:
        return error(AREA, f"{name} cannot be loaded: {trouble}", path, AGAIN)
    if lacking := [key for key in IN_MANIFEST if key not in manifest]:
        return error(AREA, f"{name} is of another version: its manifest lacks {', '.join(lacking)}", path, AGAIN)
    return ok(AREA, f"{name}: {n_tensors} tensors, sha256 as registered", path)
