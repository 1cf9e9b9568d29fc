"""Average precision of `nightlog compare` on pairs of passing and failing build logs whose lines people have labelled, beside its rivals.

The archive (breakages.tar.xz, by default in ../shared/data/breakages) has NAME/pass.log, NAME/fail.log and NAME/groundtruth for each pair:
`E 34-45` are lines of the failing log with the error, `C` its context. E lines count as positives, C lines are left out. Lines are numbered
as there: a carriage return ends a line. Ties in a score are one step.

Rivals: lines that the passing log lacks verbatim; difflib; and LogLead 2's delta in the environment of the peers (`make bench-compare`
makes it; --peers PYTHON names another): `rank_sum` of its four detectors, as its documentation recommends, and its best single one.

The constants of the comparison were chosen on the first half of the pairs by name; the means of both halves are printed.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from nightlog.comparison.blocks import file_blocks
from nightlog.comparison.lines import Coder
from nightlog.comparison.novelty import novelty
from sklearn.metrics import average_precision_score

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT.parent / "shared" / "data" / "breakages" / "breakages.tar.xz"
PEERS = ROOT / "build" / "bench" / "venv" / "bin" / "python"
SPAN = re.compile(r"([EC]) (\d+)(?:-(\d+))?")


RIVALS = ("verbatim", "difflib", "rank_sum", "target_only", "OOVDetector")
NAMES = {"rank_sum": "LogLead", "target_only": "its buckets", "OOVDetector": "its OOV"}


@dataclass(frozen=True)
class Pair:
    """A passing and a failing log as lines; `is_error` and `is_scored` say which lines of the failing one are positives, and count."""

    name: str
    good: pa.StringArray
    bad: pa.StringArray
    is_error: np.ndarray
    is_scored: np.ndarray

    def average_precision(self, score: Sequence[float] | np.ndarray) -> float:
        """Return the average precision of a score per line of the failing log."""
        return float(average_precision_score(self.is_error[self.is_scored], np.nan_to_num(np.asarray(score, float))[self.is_scored]))


def read_pair(folder: Path) -> Pair:
    """Return a pair with the labels of its first annotator."""
    good, bad = (pa.concat_arrays([block.texts for block in file_blocks(folder / f"{name}.log")]) for name in ("pass", "fail"))
    marked = {kind: np.zeros(len(bad), dtype=bool) for kind in "EC"}
    for kind, first, last in SPAN.findall((folder / "groundtruth").read_text(encoding="utf-8")):
        marked[kind][int(first) - 1 : int(last or first)] = True
    return Pair(folder.name, good, bad, marked["E"], ~marked["C"])


def diffs(pair: Pair) -> dict[str, np.ndarray]:
    """Return a score per line of the failing log by two plain diffs: 1 for a line that is not in the passing log, 0 for others."""
    good, bad = pair.good.to_pylist(), pair.bad.to_pylist()
    known = set(good)
    inserted = np.ones(len(bad))
    for block in difflib.SequenceMatcher(None, good, bad).get_matching_blocks():
        inserted[block.b : block.b + block.size] = 0
    return {"verbatim": np.array([line not in known for line in bad]), "difflib": inserted}


def ours(pair: Pair) -> np.ndarray:
    """Return the scores of `nightlog compare`."""
    coder = Coder()
    good, bad = coder.code(pair.good), coder.code(pair.bad)
    return novelty(bad, good, coder.messages, np.zeros(len(bad), dtype=np.int64)).score


def delta(pairs: Sequence[Pair], python: Path) -> list[dict[str, list[float]]]:
    """Return the scores of LogLead's delta for each pair."""
    texts = json.dumps([{"good": pair.good.to_pylist(), "bad": pair.bad.to_pylist()} for pair in pairs])
    script = str(Path(__file__).with_name("delta.py"))
    done = subprocess.run([str(python), "-W", "ignore", script], input=texts, stdout=subprocess.PIPE, text=True, check=True)
    found: list[dict[str, list[float]]] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the average precision of each pair, and the means."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("archive", nargs="?", type=Path, default=ARCHIVE)
    arguments.add_argument("--peers", type=Path, default=PEERS, help="Python of an environment with LogLead")
    given = arguments.parse_args()
    if not given.archive.is_file():
        print(f"skipped: {given.archive} is not there; the logs are not part of the repository, give the archive's path")
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(given.archive) as files:
            files.extractall(folder, filter="data")
        pairs = [read_pair(path.parent) for path in sorted(Path(folder).rglob("groundtruth"))]
    started = time.monotonic()
    scores: list[dict[str, Any]] = [{"ours": ours(pair)} for pair in pairs]
    seconds = time.monotonic() - started
    peers = delta(pairs, given.peers) if given.peers.is_file() else [{} for _ in pairs]
    scores = [own | diffs(pair) | other for pair, own, other in zip(pairs, scores, peers, strict=True)]
    columns = ["ours", *(name for name in RIVALS if name in scores[0])]
    print(f"{'':28}{'lines':>8}{'errors':>8}" + "".join(f"{NAMES.get(name, name):>13}" for name in columns))
    found = []
    for pair, own in zip(pairs, scores, strict=True):
        found.append([pair.average_precision(own[name]) for name in columns])
        counts = f"{pair.name:28}{len(pair.bad):8,}{pair.is_error.sum():8,}"
        print(counts + "".join(f"{each:13.3f}" for each in found[-1]))
    half = len(pairs) // 2
    for name, part in (("first half (chosen on)", found[:half]), ("second half", found[half:]), ("all", found)):
        print(f"{name:44}" + "".join(f"{each:13.3f}" for each in np.mean(part, axis=0)))
    lines = sum(len(pair.good) + len(pair.bad) for pair in pairs)
    print(f"ours: {lines:,} lines in {seconds:.1f} s")
    if not given.peers.is_file():
        print(f"skipped: LogLead, because {given.peers} is not there: `make bench-compare` makes it")


if __name__ == "__main__":
    main()
