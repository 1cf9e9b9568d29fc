"""`train` and `retrain` with few steps of training: what they read, write and promote is the same, and is what is looked at here."""

from __future__ import annotations

import sys

from nightlog.detector.meta import Config
from nightlog.detector.teach import teach
from nightlog.distillation.retrain import distil_systems
from nightlog.run.context import utc_now
from nightlog.run.entry import open_lake, run_teaching
from nightlog.settings import Settings
from nightlog.systems.catalog import choose, load_catalog

CONFIG = Config(steps=4, device="cpu")


def few_steps(settings: Settings, names: str, tell: object) -> None:
    """Teach the named systems: sources a general model, targets one of their own."""
    catalog = load_catalog(settings.systems)
    systems = choose(catalog, names.split(","))
    with open_lake(settings, "few steps") as lake:
        if systems[0].role == "source":
            teach(lake, systems, [], settings.logs.resolve(), "train", utc_now(), CONFIG, print)
        else:
            distil_systems(lake, systems, catalog, settings.logs.resolve(), utc_now(), CONFIG, print)


if __name__ == "__main__":
    sys.exit(run_teaching(few_steps, __doc__))
