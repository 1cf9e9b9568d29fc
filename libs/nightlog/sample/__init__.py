"""The recorded corpora that ship: the demo's three systems, and the families that train and test models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nightlog.systems.catalog import parse_system
from nightlog.systems.spec import System

FAMILIES = Path(__file__).parent / "families"  # the data folder to which the paths in the families' system files are relative


@dataclass(frozen=True)
class Family:
    """One recorded program: its system, its labels and its days (ISO dates). A held-out family never trains a model."""

    name: str
    version: str
    held_out: bool
    system: System
    days: tuple[str, ...]

    @property
    def labels(self) -> Path:
        """The CSV file with (session_id, label)."""
        return FAMILIES / self.name / "labels.csv"

    def log(self, day: str) -> Path:
        """Return the log of one day."""
        return FAMILIES / self.system.input.path.format(ds=day)


def families() -> list[Family]:
    """Return the recorded families of the manifest, by name.

    They are not in the catalogue of systems: to read one, use FAMILIES as the data folder and put its system file into a folder of yours.
    """
    manifest = json.loads((FAMILIES / "manifest.json").read_text(encoding="utf-8"))
    found = []
    for name, facts in sorted(manifest.items()):
        path = FAMILIES / name / "system.toml"
        system = parse_system(path.read_text(encoding="utf-8"), f"{name}/{path.name}")
        found.append(Family(name, facts["version"], facts["held_out"], system, tuple(sorted(facts["days"]))))
    return found
