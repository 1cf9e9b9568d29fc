"""One training run: the command `nightlog train` and the job `jobs/train.py`."""

from __future__ import annotations

from collections.abc import Callable

from nightlog.job import open_lake
from nightlog.night import utc_now
from nightlog.settings import Settings
from nightlog.systems.catalog import choose, load_catalog


def run_training(settings: Settings, names: str, tell: Callable[[str], None]) -> None:
    """Train on the named sources, or on all labelled systems that have files, and promote the model."""
    from nightlog.detector.teach import teach
    from nightlog.detector.training import Config

    catalog = load_catalog(settings.systems)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    systems = choose(catalog, wanted) if wanted else [system for system in catalog.values() if system.role == "source"]
    with open_lake(settings, "nightlog train") as lake:
        now = utc_now()
        config = Config(device=settings.device)
        model, trained = teach(lake, systems, settings.logs.resolve(), f"train__{now:%Y%m%dT%H%M%S}", now, config, tell)
    reached = ", ".join(f"{name} {value:.3f}" for name, value in trained.metrics.items())
    tell(f"model {model.version} serves: threshold {trained.threshold:.3f}, foreign {trained.foreign_threshold:.3f}; {reached}")
