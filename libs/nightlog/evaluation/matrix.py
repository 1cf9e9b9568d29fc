"""The runner: targets × modes × protocols × seeds, each cell once; a rerun goes on where the last one ended."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nightlog.errors import ConfigError, GateFailed
from nightlog.evaluation.audit import audit, shuffled
from nightlog.evaluation.baselines import BASELINES, view
from nightlog.evaluation.case import Case, Judgement, Mode
from nightlog.evaluation.corpus import BENCHMARKS, Corpus, Encode, read_corpus, sources_of
from nightlog.evaluation.journal import read_journal, write_journal
from nightlog.evaluation.metrics import Curve, Scored, curve_points, measure
from nightlog.evaluation.modes import EXAMPLES, FROM_SOURCES, MODES, SEEDLESS, WITH_ANSWERS
from nightlog.evaluation.protocols import Analyst, Protocol, Split, split
from nightlog.evaluation.versions import code_version
from nightlog.llm.items import Judge
from nightlog.llm.prompt import prompt_hash
from nightlog.systems.catalog import nearest

BASELINE = "baseline:"
JOURNAL = "cells.jsonl"
CODE = ("nightlog.evaluation.corpus", "nightlog.evaluation.protocols", "nightlog.evaluation.metrics")


@dataclass(frozen=True)
class Cell:
    """One thing to be run. `control` shuffles the labels of the sources; `answers` are those that an analyst gives."""

    target: str
    mode: str
    protocol: Protocol
    seed: int
    answers: int = 0
    control: bool = False

    @property
    def name(self) -> str:
        """The mode as it is reported."""
        return self.mode + (f"+{self.answers}answers" if self.answers else "") + ("+shuffled" if self.control else "")


@dataclass(frozen=True)
class Result:
    """What a cell came to: a flat record for all test sessions and one for the unseen, what its curves need, and what the mode told."""

    cell: Cell
    records: tuple[dict[str, Any], ...]
    curve: Curve
    detail: dict[str, float]
    audit: dict[str, Any] | None
    seconds: float

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Result:
        """A row of the journal, read back."""
        fields = {name: row[name] for name in ("detail", "audit", "seconds")}
        return Result(Cell(**row["cell"]), tuple(row["records"]), [(p, a, n) for p, a, n in row["curve"]], **fields)


def plan(
    targets: Sequence[str], modes: Sequence[str], seeds: int, protocols: Sequence[Protocol], answers: Sequence[int] = (0,)
) -> list[Cell]:
    """All cells, the baselines of a target before its modes.

    What the seed cannot change is run once: under the paper protocol it changes the target's sessions, so everything is run with every
    seed. The negative control of modes that learn from the sources alone is run once a target. Analysts answer under the deployment
    protocol: none ever sees a system whose classes are balanced.
    Raises: ConfigError where a target is not known.
    """
    cells: list[Cell] = []
    for target in targets:
        if target not in BENCHMARKS:
            raise ConfigError(f"no target `{target}`{nearest(target, BENCHMARKS)}; known: {', '.join(BENCHMARKS)}")
        for protocol in protocols:
            for name, baseline in BASELINES.items():
                every = seeds if protocol == "paper" or baseline.seeded else 1
                cells += [Cell(target, BASELINE + name, protocol, seed) for seed in range(every)]
            for mode in modes:
                every = seeds if protocol == "paper" or mode not in SEEDLESS else 1
                given = (*(answers if mode in WITH_ANSWERS and protocol == "deployment" else (0,)), *EXAMPLES.get(mode, ()))
                cells += [Cell(target, mode, protocol, seed, k) for k in given for seed in range(every)]
                if mode in FROM_SOURCES and protocol == "deployment":
                    cells.append(Cell(target, mode, protocol, 0, control=True))
    return list(dict.fromkeys(cells))


class Matrix:
    """Runs cells over the systems in `folder`; `out` keeps the finished ones."""

    def __init__(
        self, folder: Path, out: Path, encode: Encode, judge: Judge | None, device: str = "cpu", modes: Mapping[str, Mode] = MODES
    ):
        self._folder = folder
        self._out = out
        self._encode = encode
        self._judge = judge
        self._device = device
        self._modes = modes
        self.corpus = cache(self._read)

    def run(self, cells: Iterable[Cell]) -> Iterator[Result]:
        """The result of each cell, in order; one that was finished by the same code on the same data is read back.

        Raises: GateFailed where the leakage audit finds something, or a mode does not answer as it must.
        """
        known = {row["key"]: row for row in read_journal(self._out / JOURNAL)}
        for cell in cells:
            key = self._key(cell)
            if key in known:
                yield Result.from_row(known[key])
                continue
            result = self._run(cell)
            write_journal(self._out / JOURNAL, [{"key": key} | asdict(result)])
            yield result

    def _read(self, name: str) -> Corpus:
        return read_corpus(self._folder, BENCHMARKS[name], self._encode)

    def _run(self, cell: Cell) -> Result:
        started = time.monotonic()
        target = split(self.corpus(cell.target), cell.protocol, cell.seed)
        if cell.mode.startswith(BASELINE):
            return self._baseline(cell, target, started)
        read = tuple(self.corpus(name) for name in sources_of(cell.target))
        sources = tuple(corpus.source() for corpus in read)
        case = Case(
            target=cell.target,
            seed=cell.seed,
            system=target.corpus.bench.spec(),
            sources=tuple(shuffled(source, cell.seed) for source in sources) if cell.control else sources,
            adaptation=target.patterns(target.adaptation),
            test=target.patterns(target.test),
            judge=self._judge,
            device=self._device,
            answers=cell.answers,
            oracle=Analyst(target, cell.answers) if cell.answers else None,
        )
        checked = audit(case, target, read)
        said = self._modes[cell.mode](case)
        scored = Scored(*answered(cell, case, said), *target.truth(target.corpus.pattern, target.test))
        unseen = ~np.isin(case.test.ids, case.adaptation.ids)
        note = "labels of the sources shuffled: must be chance" if cell.control else ""
        records = score(cell, scored, unseen, said.asked, note)
        detail = {name: float(value) for name, value in said.detail.items()}
        return Result(cell, records, curve_points(scored), detail, checked.row(), time.monotonic() - started)

    def _baseline(self, cell: Cell, target: Split, started: float) -> Result:
        baseline = BASELINES[cell.mode.removeprefix(BASELINE)]
        data = view(target, cell.seed)
        scored = Scored(*baseline.score(data), data.anomalous, data.normal)
        patterns = target.corpus.pattern_of[np.unique(target.corpus.vector[target.test])]
        unseen = ~np.isin(patterns, target.corpus.pattern[target.adaptation])
        return Result(cell, score(cell, scored, unseen, 0, baseline.note), [], {}, None, time.monotonic() - started)

    def _key(self, cell: Cell) -> str:
        if cell.mode.startswith(BASELINE):
            used, version, judge = [cell.target], code_version(*CODE, "nightlog.evaluation.baselines"), None
        else:
            if cell.mode not in self._modes:
                raise ConfigError(f"no mode `{cell.mode}`{nearest(cell.mode, self._modes)}; known: {', '.join(self._modes)}")
            used = [cell.target, *sources_of(cell.target)]
            version, judge = code_version(*CODE, self._modes[cell.mode].__module__), self._judge.name if self._judge else None
        prompt = prompt_hash(BENCHMARKS[cell.target].spec()) if judge else None
        content = [asdict(cell), used, self._data_versions, version, judge, prompt]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def _data_versions(self) -> dict[str, str]:
        names = [f"{bench.name}.sessions.jsonl.gz" for bench in BENCHMARKS.values()]
        names += sorted({f"{bench.family}_templates.csv" for bench in BENCHMARKS.values()})
        paths = [path for name in names if (path := self._folder / name).is_file()]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def answered(cell: Cell, case: Case, said: Judgement) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and flags of a judgement. Raises GateFailed where they are not one number and one flag for each test pattern."""
    n = len(case.test.ids)
    probability, flagged = np.asarray(said.probability, dtype=float), np.asarray(said.flagged)
    in_range = probability.shape == (n,) and bool(((probability >= 0) & (probability <= 1)).all())
    if not in_range or flagged.shape != (n,) or flagged.dtype != bool:
        raise GateFailed(
            f"{cell.name} on {cell.target}: expected {n} probabilities in [0, 1] and {n} flags, got probabilities {probability.shape} "
            f"and flags {flagged.shape} {flagged.dtype}"
        )
    return probability, flagged


def score(cell: Cell, scored: Scored, unseen: np.ndarray, asked: int, note: str) -> tuple[dict[str, Any], ...]:
    """The two flat records of a cell: all test sessions, and those whose pattern is not in the adaptation part."""
    head = {"target": cell.target, "mode": cell.name, "protocol": cell.protocol, "seed": cell.seed}
    tail = {"llm_items": asked, "answers": cell.answers, "note": note}
    parts = {"all": scored, "unseen": scored.only(unseen)}
    return tuple(head | {"sessions": name} | rounded(measure(part, cell.seed)) | tail for name, part in parts.items())


def rounded(measures: Mapping[str, float | int | None]) -> dict[str, float | int | None]:
    """Six digits are more than any interval."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in measures.items()}
