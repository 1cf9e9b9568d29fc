"""Teaching: the labelled systems' files → lake → a trained, registered and promoted model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from nightlog.detector.manifest import Manifest
from nightlog.detector.meta import Config
from nightlog.detector.metaproto.serving import teach_metaproto
from nightlog.detector.patterns import Source
from nightlog.detector.registry import Model, promote, save
from nightlog.detector.sources import read_patterns, read_source
from nightlog.detector.training import Trained, tau_of, train, with_shape
from nightlog.encoding.encoder import ENCODER, embed
from nightlog.errors import ConfigError
from nightlog.ingest.discover import find_days
from nightlog.ingest.ingest import find_delivery, ingest_days
from nightlog.lake.lake import Lake
from nightlog.lake.tables import PATTERNS
from nightlog.parsing.parse import parse_nights
from nightlog.systems.spec import System

Tell = Callable[[str], None]


def fill(lake: Lake, system: System, data: Path, run_id: str, device: str, tell: Tell) -> bool:
    """Ingest, parse and embed the nights of a source that the lake lacks. Returns whether the lake now holds any."""
    present = lake.nights(PATTERNS, system.name)  # what a night is parsed into last: one that broke off is not there
    if missing := {ds: find_delivery(system, data, ds) for ds in find_days(system, data) if ds not in present}:
        counts = ingest_days(lake, system, missing, run_id) | parse_nights(lake, system, list(missing), run_id)[0]
        present |= missing.keys()
        tell(f"{system.name}: {len(missing)} nights, {counts['n_lines']:,} lines, {counts['n_sessions']:,} sessions")
    if present:
        embed(lake, system, device)
    return bool(present)


def teach(
    lake: Lake,
    systems: Iterable[System],
    targets: Iterable[System],
    data: Path,
    run_id: str,
    now: datetime,
    config: Config,
    tell: Tell,
    answers: Mapping[str, Mapping[str, bool]] | None = None,
) -> tuple[Model, Trained]:
    """Train the small model on all labelled systems that the lake or the data folder holds, and let it serve; then the MetaProto of each
    target whose system file names it.

    Args: targets, the systems that the models are for: their patterns, where the lake has any, take part without labels; answers, of
    analysts, by system and question: anomalous or not. A MetaProto alone learns from them.
    Returns the model of all and what it reached on held-out source patterns. Raises ConfigError where nothing is there to learn from.
    """
    sources: list[Source] = []
    for system in systems:
        if fill(lake, system, data, run_id, config.device, tell):
            source = read_source(lake, system, data, ENCODER)
            tell(
                f"{source.name}: {len(source.ids):,} labelled patterns of {int(source.sessions.sum()):,} sessions, "
                f"{(source.sessions * source.anomalous).sum():,.0f} anomalous"
            )
            sources.append(source)
        else:
            tell(f"{system.name}: no files under the data folder; left out")
    sources = [source for source in sources if len(source.ids)]
    if not sources:
        raise ConfigError('no labelled system has files under the data folder: give --data, or a system file with role = "source"')
    config = with_shape(config, sources[0].vectors.shape[1])
    targets = list(targets)
    known = [target for target in targets if lake.nights(PATTERNS, target.name)]
    for target in known:
        embed(lake, target, config.device)  # a night may have ended between its parsing and its embedding
    unlabelled = [read_patterns(lake, target, ENCODER) for target in known]
    unlabelled = [patterns for patterns in unlabelled if len(patterns.ids) and len(patterns.vectors)]
    trained = train(sources, unlabelled, config)
    manifest = Manifest(
        encoder=ENCODER,
        tau=tau_of(sources) if trained.transfer.trusted else None,
        threshold=trained.transfer.threshold,
        foreign_threshold=trained.transfer.threshold,
        calibration=trained.transfer.calibration,
        foreign=trained.transfer.calibration,
        shape=config.shape,
        source_texts=tuple(text for source in sources for text in source.texts),
        source_systems=tuple(source.name for source in sources for _ in source.texts),
        sources=tuple(source.name for source in sources),
        data={source.name: {"patterns": len(source.ids), "sessions": int(source.sessions.sum())} for source in sources},
    )
    model = save(lake, trained.network, np.concatenate([source.vectors for source in sources]), manifest, trained.metrics, now)
    promote(lake, model.version)
    seen = {patterns.name: patterns for patterns in unlabelled}
    own = {target.name: seen.get(target.name) for target in targets if target.detector == "metaproto"}
    teach_metaproto(lake, own, sources, manifest, answers or {}, config.seed, now, tell)
    return model, trained
