"""F1 of real nights by the number of questions, in the order of production."""

from __future__ import annotations

from pathlib import Path

import pytest
from nightlog.evaluation.asking import main

pytestmark = [pytest.mark.shared, pytest.mark.slow]


def test_with_few_questions_the_nights_of_hdfs_are_judged_as_well_as_with_all(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(shared / "data" / "raw"), "--verdicts", str(shared / "llm" / "verdicts.jsonl.gz")]) == 0
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    f1 = {row[0]: float(row[2]) for row in rows}
    asked = {row[0]: int(row[1]) for row in rows}
    assert list(f1) == ["0", "20", "40", "80", "all"]
    assert asked["0"] == 0 < asked["20"] < asked["40"] < asked["80"] < asked["all"]
    assert f1["0"] >= 0.85 and min(f1["20"], f1["40"], f1["80"], f1["all"]) >= 0.94
