"""The models: those that were trained are there, unaltered, and of this version; without any, the general model that ships serves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from nightlog.detector.calibration import Calibration
from nightlog.detector.manifest import manifest_in
from nightlog.doctor.finding import Finding, error, ok, warning
from nightlog.history.general import general
from nightlog.lake.files import half_written, read_file
from nightlog.lake.lake import Lake
from nightlog.lake.tables import MODELS
from nightlog.systems.spec import System

AREA = "models"
AGAIN = "restore the file from a copy of the lake, or train again: nightlog train, nightlog retrain"
NAME_A_JUDGE = "name an LLM (OPENAI_API_KEY, docs/reference/settings.md) or answer its questions (nightlog questions)"
IN_MANIFEST = ("encoder", "tau", "threshold", "foreign_threshold", "shape", "source_texts", "sources")


def models(lake: Lake) -> Iterator[Finding]:
    """Yield which models serve, and if the file of each is what the registry says."""
    rows = [row for row in lake.rows(MODELS) if row["status"] == "promoted"]
    if not any(row["system"] == "" for row in rows):
        shipped = f"no trained model: the general model that ships ({general().version}) is used; `nightlog train` is optional"
        yield ok(AREA, shipped, lake.root)
    for row in sorted(rows, key=lambda row: str(row["system"])):
        yield model(f"{lake.root}/models/{row['version']}.safetensors", row)
    if parts := half_written(f"{lake.root}/models"):
        yield warning(AREA, f"{len(parts)} half-written model files", parts[0], "remove .*.part there: a training broke off")


def unjudged_ahead(lake: Lake, systems: Iterable[System], is_llm_off: bool) -> Iterator[Finding]:
    """Yield the systems of whose sessions tonight leaves some unjudged: no LLM judges them, nor does their model.

    Such a night is incomplete, or, if the system's file wants no LLM, complete with unjudged sessions.
    """
    rows = {row["system"]: row for row in lake.rows(MODELS) if row["status"] == "promoted"}
    for system in systems:
        row = rows.get(system.name) or rows.get("")
        if system.llm.judges and not is_llm_off:
            continue
        if row is None:
            found = f"{system.name}: no LLM judges; the history flags anomalies, and what it does not flag is judged by nobody"
            yield warning(AREA, found, lake.root, NAME_A_JUDGE)
            continue
        manifest = json.loads(row["manifest"])
        flags_foreign, flags_known = (
            Calibration(**manifest.get(calibration) or {}).reaches(manifest.get(threshold))
            for calibration, threshold in (("foreign", "foreign_threshold"), ("calibration", "threshold"))
        )
        if flags_foreign and flags_known:
            continue
        which = "none of its sessions" if not flags_foreign and not flags_known else "no session "
        which += "" if which.startswith("none") else "unlike the training systems" if flags_known else "like the training systems"
        found = f"{system.name}: no LLM judges, and model {row['version']} can flag {which}: these are judged by nobody"
        yield warning(AREA, found, lake.root, f"{NAME_A_JUDGE}, or train again")


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
