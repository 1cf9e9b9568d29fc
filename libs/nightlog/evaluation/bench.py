"""`nightlog evaluate` as a benchmark: what is run, and what is left in the folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from queue import Empty, Queue

from nightlog.errors import ConfigError
from nightlog.evaluation.case import Mode
from nightlog.evaluation.corpus import BENCHMARKS, MAIN, Encode, sessions_folder, sources_of
from nightlog.evaluation.markdown import results_markdown
from nightlog.evaluation.matrix import Cell, Matrix, Result, plan
from nightlog.evaluation.modes import MODES
from nightlog.evaluation.page import results_page
from nightlog.evaluation.protocols import PROTOCOLS, Protocol
from nightlog.evaluation.remember import RememberingJudge
from nightlog.evaluation.vectors import KeptVectors
from nightlog.llm.judge import make_judge
from nightlog.settings import Settings
from nightlog.systems.catalog import nearest

CALLS = 100_000


@dataclass(frozen=True)
class Wanted:
    """What a run is about. Empty `targets` and `modes` mean all."""

    targets: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    protocols: tuple[Protocol, ...] = ("deployment",)
    seeds: int = 5
    answers: tuple[int, ...] = (0,)

    @staticmethod
    def of(targets: str, modes: str, protocol: str, seeds: int, answers: str, quick: bool) -> Wanted:
        """From the words of the command line. `quick` is one seed, the deployment protocol and, unless others are named, the main targets.

        Raises: ConfigError that says what is known.
        """
        for name in words(modes):
            if name not in MODES:
                raise ConfigError(f"no mode `{name}`{nearest(name, MODES)}; known: {', '.join(MODES)}")
        if protocol not in (*PROTOCOLS, "both"):
            raise ConfigError(f"no protocol `{protocol}`; known: {', '.join(PROTOCOLS)}, both")
        if not all(word.isdigit() for word in words(answers)):
            raise ConfigError(f"--answers {answers}: expected numbers separated by commas, such as 0,1,3,5")
        protocols: tuple[Protocol, ...] = tuple(name for name in PROTOCOLS if protocol in (name, "both"))
        return Wanted(
            targets=words(targets) or (MAIN if quick else tuple(BENCHMARKS)),
            modes=words(modes) or tuple(MODES),
            protocols=("deployment",) if quick else protocols,
            seeds=1 if quick else max(1, seeds),
            answers=tuple(sorted({0, *map(int, words(answers))})),
        )

    def cells(self) -> list[Cell]:
        """All cells of the run, in order."""
        return plan(self.targets, self.modes, self.seeds, self.protocols, self.answers)


def words(text: str) -> tuple[str, ...]:
    """Words separated by commas, each once.

    >>> words("a, b,,a")
    ('a', 'b')
    """
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def run_benchmark(
    settings: Settings,
    cells: Sequence[Cell],
    out: Path,
    encode: Encode | None = None,
    modes: Mapping[str, Mode] = MODES,
    workers: int = 1,
) -> Iterator[Result]:
    """Run the cells, one result as it comes, and write results.json, results.md and index.html to `out` when the last has come.

    `out` also keeps finished cells, template vectors and verdicts, so that a second run only does what is missing. The LLM's budget
    of a night does not hold here: a benchmark asks about all sessions of a system at once. With several `workers` the targets are
    shared out to as many processes.
    Raises: ConfigError where the data is missing, GateFailed where the leakage audit finds something.
    """
    found: dict[Cell, Result] = {}
    some = matrix_of(settings, out, encode, modes).run(cells) if workers == 1 else side_by_side(settings, cells, out, workers)
    for result in some:
        found[result.cell] = result
        yield result
    write_results([found[cell] for cell in cells], out)


def matrix_of(settings: Settings, out: Path, encode: Encode | None = None, modes: Mapping[str, Mode] = MODES) -> Matrix:
    """The runner of one process."""
    judge = make_judge(settings.model_copy(update={"llm_calls_per_night": CALLS}))
    return Matrix(
        folder=sessions_folder(settings.logs.resolve()),
        out=out,
        encode=encode or KeptVectors(out),
        judge=RememberingJudge(judge, out / "verdicts.jsonl") if judge is not None else None,
        device=settings.device,
        modes=modes,
    )


def side_by_side(settings: Settings, cells: Sequence[Cell], out: Path, workers: int) -> Iterator[Result]:
    """The results of all cells, in no order: one group of targets after the other in each of some processes.

    Targets with the same sources stay together, since what sources teach is learnt once in a process; the largest group comes first.
    """
    by_sources: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        by_sources.setdefault(sources_of(cell.target), []).append(cell)
    groups = sorted(by_sources.values(), key=len, reverse=True)
    with get_context("spawn").Manager() as manager:
        results: Queue[Result] = manager.Queue()
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            running = [pool.submit(run_some, settings, part, out, results) for part in groups]
            for _ in cells:
                while (result := next_of(results)) is None:
                    for done in running:
                        if done.done():
                            done.result()
                yield result


def next_of(results: Queue[Result]) -> Result | None:
    """The next result, None where a second has passed without one."""
    try:
        return results.get(timeout=1.0)
    except Empty:
        return None


def run_some(settings: Settings, cells: Sequence[Cell], out: Path, results: Queue[Result]) -> None:
    """In a process of its own: some cells, on one core."""
    import torch

    torch.set_num_threads(1)
    for result in matrix_of(settings, out).run(cells):
        results.put(result)


def write_results(results: Sequence[Result], out: Path) -> None:
    """The flat records, the tables, the page, and what the audit counted."""
    records = [record for result in results for record in result.records]
    audits = {json.dumps(result.audit | {"protocol": result.cell.protocol}): None for result in results if result.audit}
    written = {
        "results.json": json.dumps(records, indent=1),
        "results.md": results_markdown(results),
        "index.html": results_page(results),
        "audit.json": json.dumps([json.loads(row) for row in audits], indent=1),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        partial = out / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(out / name)
