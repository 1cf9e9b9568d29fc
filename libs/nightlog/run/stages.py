"""A night as a table of stages, and the stages of one system: each calls one function of the library.

A stage writes to the lake that it is given: the system's transaction, which Night commits, or the lake itself (`Step.writes_at_once`).
Imports wait until a stage runs: each stage is a process of its own under Airflow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from nightlog.errors import GateFailed, NoInput
from nightlog.lake.lake import Lake
from nightlog.outcomes import OutcomeKind, Stage
from nightlog.run.context import Context, Versions
from nightlog.run.progress import Progress
from nightlog.systems.spec import System


class Result(NamedTuple):
    """The result of a stage for a system: counts, a detail in words, and the kind of its outcome."""

    counts: dict[str, int]
    detail: str | None = None
    kind: OutcomeKind = OutcomeKind.DONE


Need = Literal["spark", "gpu"]
Work = Callable[[Lake, Context, System, Versions, Progress], Result]


@dataclass(frozen=True)
class Step:
    """One stage of a night.

    `work` handles one system; None for the report, which handles all systems at once. `needs`: a Spark session, for a large day; a GPU, if
    the profile has one. `pins`: the versions that this stage takes as they are now when it is run again (see `Versions.renewed`); it uses
    all others as the run pinned them when it began. `writes_at_once`: its rows are committed as they come, not after the stage.
    """

    stage: Stage
    description: str
    work: Work | None
    needs: frozenset[Need] = frozenset()
    pins: tuple[str, ...] = ()
    writes_at_once: bool = False


def ingest(lake: Lake, run: Context, system: System, versions: Versions, progress: Progress) -> Result:
    """Read the files of the day."""
    from nightlog.ingest.discover import data_folder
    from nightlog.ingest.ingest import ingest as read

    try:
        counts, detail = read(lake, system, run.ds, data_folder(run.settings.logs), run.run_id, run.fewer_lines, run.read_again)
    except NoInput as error:
        return without_input(lake, run, system, error)
    if counts["run_n_lines_kept"]:
        run.notify(f"{system.name} {run.ds}: the files have not changed since they were read, and their lines are kept")
    return Result(counts, detail)


def without_input(lake: Lake, run: Context, system: System, error: NoInput) -> Result:
    """Let a night without any line go on if sessions are due on it: see `nightlog.sessions.waiting`. Raises the error otherwise."""
    from nightlog.lake.tables import LINES_TABLE
    from nightlog.sessions.waiting import due_sessions

    n_due = due_sessions(lake, system, run.ds)
    if not n_due or run.ds in lake.nights(LINES_TABLE, system.name):
        raise error
    counts = dict.fromkeys(("n_files", "n_hosts", "n_bytes", "n_lines", "n_replaced"), 0) | error.counts
    return Result(counts, f"{error}; {n_due:,} sessions that waited for this night are judged")


def parse(lake: Lake, run: Context, system: System, versions: Versions, progress: Progress) -> Result:
    """Parse the night, then check its counts by the gate."""
    from nightlog.parsing.parse import parse as split
    from nightlog.quality.approvals import check_parsed
    from nightlog.sessions.write import LONG_SESSION

    counts, notes = split(lake, system, run.ds, run.run_id, run.read_again)
    if counts["run_n_events_kept"]:
        run.notify(f"{system.name} {run.ds}: the lines are those that were parsed before, and their events are kept")
    n_long = counts.pop("n_long_sessions")
    kept = {name: n for name, n in counts.items() if name != "n_beyond_cap"}
    known = progress.counts(system) | counts
    try:
        if known["n_lines"]:  # a night without input is compared with no other: it only judges what waited
            notes += check_parsed(lake, system, run.ds, known, run.past)
    except GateFailed as error:
        raise GateFailed(str(error), kept) from None
    if n_long:
        notes.append(f"{n_long:,} sessions have more than {LONG_SESSION:,} events; a few lines of each are shown")
    if n := counts.pop("n_beyond_cap"):
        bounds = f"templates.messages = {system.templates.messages:,} or templates.cap = {system.templates.cap:,}"
        notes.append(f"{n:,} records have messages beyond {bounds} and share templates of wildcards")
    return Result(counts, "; ".join(notes) or None)


def embed(lake: Lake, run: Context, system: System, versions: Versions, progress: Progress) -> Result:
    """Embed the texts of new templates, if the model reads vectors."""
    if run.loaded(system, versions).manifest.encoder is None:
        return Result({"run_n_embedded": 0})  # the general model that ships reads no vectors
    from nightlog.encoding.encoder import embed as encode

    return Result(encode(lake, system, run.settings.device))


def route(lake: Lake, run: Context, system: System, versions: Versions, progress: Progress) -> Result:
    """Choose for each pattern who decides it."""
    from nightlog.routing.router import route as choose

    model = run.loaded(system, versions)
    return Result(choose(lake, system, run.ds, model.sources, model.manifest.tau, model.version, model.manifest.encoder))


def detect(lake: Lake, run: Context, system: System, versions: Versions, progress: Progress) -> Result:
    """Score the patterns by the history, and by the trained model if one serves."""
    from nightlog.history.night import score_night

    model = run.model(system, versions)
    if model.detector == "history":
        return Result(*score_night(lake, system, run.ds, model.version))
    from nightlog.detector.scoring import detect as score

    counts = score(lake, system, run.ds, model, run.settings.device)
    return Result(counts, score_night(lake, system, run.ds)[1])


def label(lake: Lake, run: Context, system: System, versions: Versions, progress: Progress) -> Result:
    """Ask the LLM about patterns that have no verdict yet."""
    from nightlog.feedback.questions import answers_to
    from nightlog.llm.label import label_patterns

    judge, prices, batches = run.judge if system.llm.judges else None, run.settings.prices, run.batches
    answers = partial(answers_to, lake, system)
    return Result(*label_patterns(lake, system, run.ds, run.run_id, judge, run.clock, prices, batches, run.notify, answers))


def publish(lake: Lake, run: Context, system: System, versions: Versions, progress: Progress) -> Result:
    """Publish the rows of the earlier stages, through the gates."""
    from nightlog.publishing.publish import Publication
    from nightlog.publishing.publish import publish as publish_night

    unsound = (*run.unsound.get(system.name, ()), *run.unsound.get("", ()))
    model, trouble = run.loaded(system, versions), progress.llm_trouble(system)
    by = Publication(run.ds, run.run_id, model, versions.prompt, versions.llm, run.clock(), trouble, run.past, unsound)
    counts = progress.counts(system)
    counts |= {f"run_{name}": n for name, n in counts.items() if name.startswith("llm_")}
    return Result(*publish_night(lake, system, by, counts, progress.seconds(system)))


SPARK: frozenset[Need] = frozenset({"spark"})
SPARK_AND_GPU: frozenset[Need] = frozenset({"spark", "gpu"})

STEPS: dict[Stage, Step] = {
    step.stage: step
    for step in (
        Step(Stage.INGEST, "read the files of the day", ingest, SPARK, ("model", "prompt", "llm")),
        Step(Stage.PARSE, "split lines into templates, sessions and patterns", parse, SPARK),
        Step(Stage.EMBED, "embed the texts of new templates", embed, SPARK_AND_GPU),
        Step(Stage.ROUTE, "choose who decides each pattern, small model or LLM", route, SPARK),
        Step(Stage.DETECT, "score each pattern by the history and the trained model", detect, SPARK_AND_GPU),
        Step(Stage.LABEL, "ask the LLM about patterns without a verdict", label, pins=("prompt", "llm"), writes_at_once=True),
        Step(Stage.PUBLISH, "publish anomalies and the night's counts through the gates", publish, SPARK),
        Step(Stage.REPORT, "find signals, write pages, hand the night off", None),
    )
}
