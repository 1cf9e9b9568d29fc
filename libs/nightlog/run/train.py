"""Training runs: the commands `nightlog train` and `nightlog retrain`, the jobs `jobs/train.py` and `jobs/retrain.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.ingest.discover import find_days
from nightlog.run.context import utc_now
from nightlog.run.entry import open_lake
from nightlog.settings import Settings
from nightlog.systems.catalog import choose, load_catalog

if TYPE_CHECKING:
    from nightlog.lake.lake import Lake
    from nightlog.systems.spec import System


def labelled_folder(settings: Settings, systems: Sequence[System]) -> Path:
    """Return where the files and labels of the labelled systems are: the data folder, or the sample's where the data folder has none of
    them, so that who has no labels at all begins with what ships with Nightlog."""
    data = settings.logs.resolve()
    labels = [data / system.labels.file for system in systems if system.labels is not None and system.labels.file is not None]
    there = any(path.is_file() for path in labels) or any(find_days(system, data) for system in systems)
    return data if there else settings.sample_logs.resolve()


def run_training(settings: Settings, names: str, tell: Callable[[str], None]) -> None:
    """Train on the named sources, or on all labelled systems that have files, and promote the model."""
    from nightlog.detector.meta import Config
    from nightlog.detector.teach import teach

    catalog = load_catalog(settings.systems)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    systems = choose(catalog, wanted) if wanted else [system for system in catalog.values() if system.role == "source"]
    data = labelled_folder(settings, [system for system in systems if system.role == "source"])
    if data != settings.logs.resolve():
        tell(f"no labelled system has files under {settings.logs}: the sample that ships with Nightlog teaches")
    with open_lake(settings, "nightlog train") as lake:
        now = utc_now()
        config = Config(device=settings.device)
        targets = [system for system in catalog.values() if system.role == "target"]
        answers = {target.name: answered(lake, target) for target in targets if target.detector == "metaproto"}
        model, trained = teach(lake, systems, targets, data, f"train__{now:%Y%m%dT%H%M%S}", now, config, tell, answers)
    at = trained.transfer.threshold
    flags = "it cannot flag anything" if at is None else f"threshold {at:.3f}"
    word = "decides general patterns" if trained.transfer.trusted else "is not trusted with general patterns: the LLM is asked about all"
    reached = ", ".join(f"{name} {value:.3f}" for name, value in trained.metrics.items())
    tell(f"model {model.version} serves: {flags}, {word}; {reached}")


def answered(lake: Lake, system: System) -> dict[str, bool]:
    """Return the analysts' answers on a system's questions and patterns: id → anomalous or not."""
    from nightlog.feedback.questions import answers_to
    from nightlog.llm.prompt import prompt_hash
    from nightlog.llm.verdicts import latest_verdicts

    verdicts = latest_verdicts(lake, system, prompt_hash(system), None)
    return {question: answer == 1 for question, answer in answers_to(lake, system, verdicts).items()}


def run_distillation(settings: Settings, names: str, tell: Callable[[str], None]) -> None:
    """Distil what is known of the named targets, or of all that nights were run of, into small models of their own."""
    from nightlog.detector.meta import Config
    from nightlog.distillation.retrain import distil_systems
    from nightlog.encoding.encoder import embed
    from nightlog.lake.tables import PATTERNS

    catalog = load_catalog(settings.systems)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    systems = choose(catalog, wanted) if wanted else list(catalog.values())
    with open_lake(settings, "nightlog retrain") as lake:
        data = labelled_folder(settings, [system for system in catalog.values() if system.role == "source"])
        for system in systems:
            if system.role == "target" and lake.nights(PATTERNS, system.name):
                embed(lake, system, settings.device)  # nights judged by the general model that ships embed nothing
        distil_systems(lake, systems, catalog, data, utc_now(), Config(device=settings.device), tell)
