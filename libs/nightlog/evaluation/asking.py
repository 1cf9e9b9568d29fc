"""F1 of real nights by the number of LLM questions, in the order of production: `python -m nightlog.evaluation.asking --data FOLDER`.

The nights of a system are ingested, parsed and scored by the general model that ships. Then, for each number of questions, the stage
`label` asks a recorded LLM until that number is spent over all nights, and the decisions of `publish` are compared with the labels.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from nightlog.evaluation.nights import read_labels, score
from nightlog.lake.lake import Lake
from nightlog.lake.tables import SESSIONS
from nightlog.llm.items import Answer, Item, Judge
from nightlog.llm.label import label_patterns
from nightlog.llm.prompt import prompt_hash, round_of
from nightlog.llm.recorded import RecordedJudge
from nightlog.outcomes import Stage
from nightlog.publishing.decide import Thresholds, decisions, llm_cause
from nightlog.publishing.inputs import learn, read_judged, verdicts_and_answers
from nightlog.run.context import utc_now
from nightlog.run.night import Night
from nightlog.settings import Settings
from nightlog.systems.catalog import load_catalog
from nightlog.systems.spec import System

QUESTIONS = (0, 20, 40, 80, None)


class LimitedJudge:
    """A judge that answers at most `left` questions of the first round; None for no limit. `asked` counts those of both rounds."""

    def __init__(self, judge: Judge):
        self.name, self.asked = judge.name, 0
        self.left: int | None = None
        self._judge = judge

    def judge(self, system: System, items: Sequence[Item]) -> Iterator[Answer]:
        """See `Judge.judge`."""
        is_limited = self.left is not None and round_of(items) == 1
        own = items[: self.left] if is_limited else items
        if self.left is not None and is_limited:
            self.left -= len(own)
        self.asked += len(own)
        if own:
            yield from self._judge.judge(system, own)
        if len(own) < len(items):
            yield Answer((), 0, 0, 0, trouble="the questions of this evaluation are spent")


def scored_nights(root: Path, system: System, nights: Sequence[str], data: Path) -> None:
    """Run the stages up to `detect` on all nights."""
    settings = Settings(lake=root, data=data, llm="off", device="cpu")
    for ds in nights:
        night = Night(ds, f"scored-{ds}", [system], Lake(root), settings, utc_now)
        for stage in (*Stage.DETECT.before, Stage.DETECT):
            for outcome in night.run_stage(stage):
                if outcome.outcome != "done":
                    raise SystemExit(f"{ds}: stage {stage}: {outcome.outcome}: {outcome.detail}")


def flagged_sessions(lake: Lake, system: System, nights: Sequence[str], judge: LimitedJudge, limit: int | None) -> set[str]:
    """Return the sessions that the nights flag, one night after the other. Each may ask its share of `limit`, and what is left."""
    from nightlog.detector.manifest import OF_GENERAL

    found = set[str]()
    for number, ds in enumerate(nights):
        judge.left = None if limit is None else (judge.left or 0) + (number + 1) * limit // len(nights) - number * limit // len(nights)
        label_patterns(lake, system, ds, f"asked-{ds}", judge, utc_now, progress=lambda line: None)
        judged = read_judged(lake, system, ds)
        verdicts, answers = verdicts_and_answers(lake, system, prompt_hash(system), judge.name)
        learn(lake, system, ds, judged, verdicts, answers)
        given = (judged.patterns, judged.routes, judged.scores, verdicts, answers, Thresholds.of(OF_GENERAL), llm_cause(system, judge.name))
        anomalous = {each.pattern_id for each in decisions(*given, judged.history) if each.anomalous}
        rows = lake.rows(SESSIONS, ["session_id", "pattern_id"], system=system.name, ds=ds)
        found |= {row["session_id"] for row in rows if row["pattern_id"] in anomalous}
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m nightlog.evaluation.asking", description="F1 of real nights by LLM questions.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the system's logs and its label file")
    parser.add_argument("--verdicts", type=Path, required=True, help="file of recorded LLM verdicts, JSON lines, may be gzipped")
    parser.add_argument("--system", default="hdfs", help="name of the system")
    parser.add_argument("--nights", default="2008-11-09,2008-11-10,2008-11-11", help="days, separated by commas")
    given = parser.parse_args(argv)
    system, nights = load_catalog()[given.system], given.nights.split(",")
    print("| questions | asked | F1 | precision | recall | false alarms per 1,000 |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        root, lines = Path(folder, "lake"), Path(folder, "verdicts.jsonl")
        opened = gzip.open if given.verdicts.suffix == ".gz" else open
        with opened(given.verdicts, "rb") as source, lines.open("wb") as target:
            target.writelines(line for line in source if b'"kind": "event"' not in line)
        scored_nights(root, system, nights, given.data)
        seen = {row["session_id"] for ds in nights for row in Lake(root).rows(SESSIONS, ["session_id"], system=system.name, ds=ds)}
        truth = {session: label for session, label in read_labels(system, given.data).items() if session in seen}
        recorded = RecordedJudge(lines)
        for limit in QUESTIONS:
            copy = Path(folder, "copy")
            shutil.copytree(root, copy)
            judge = LimitedJudge(recorded)
            found = score(flagged_sessions(Lake(copy), system, nights, judge, limit), truth)
            cells = [f"{found[name]:.3f}" for name in ("f1", "precision", "recall")]
            print(
                f"| {'all' if limit is None else limit} | {judge.asked} | {' | '.join(cells)} | {found['false_alarms_per_1000']:.1f} |",
                flush=True,
            )
            shutil.rmtree(copy)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
