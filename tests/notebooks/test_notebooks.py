"""The notebooks: clean as they are kept, and run from end to end on a night of the sample, without Spark."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hostile import hostile_lines
from nbclient import NotebookClient
from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import NIGHTS
from nightlog.pages.charts import Column, Track, columns, timeline
from nightlog.pages.notebook import night_or_last, open_lake, picture, short, table
from tags import Tags

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
# What a reader must find in each, as the sample has it.
SHOWN = {
    "tonight": ("Wednesday 4 March 2026", "52 anomalous sessions", "no space was left on the device", "sessions_asked"),
    "anomaly": (" normal --system dovecot", "dovecot/dovecot-2026-03-04.log.gz", "decided_by", "events of the session"),
    "verdicts": ("120 verdicts under the night", "best_f1", "share that was right by confidence", "small model by LLM"),
    "incident": (
        "impact of the first",
        "killed by a signal",
        "hour of 2026-03-04",
        "nightlog compare --ds 2026-03-04 --baseline 2026-03-03",
    ),
    "threshold": ("sessions flagged", "that each threshold flags", "findings cover", "budget of 20", "by night and judge"),
    "model_card": ("all-MiniLM-L6-v2", "measures of the model", "strongest channel", "baseline:always_anomalous", "share of sessions by τ"),
}
# The environment of the notebooks, which draws charts: `make notebooks` or `make test` makes it.
KERNEL = Path(__file__).resolve().parents[2] / "build" / "jupyter" / "bin" / "python"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_clean(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert path.stem in SHOWN
    assert set(book.metadata) == {"kernelspec", "language_info"} and set(book.metadata.language_info) == {"name"}
    assert [cell.metadata for cell in book.cells if cell.metadata] == [{"tags": ["parameters"]}]
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == [], "clear the outputs before you commit"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a kernel in the environment of the notebooks."""
    if not KERNEL.is_file():
        pytest.skip(f"{KERNEL} is not there: make build/jupyter/made")
    argv = [str(KERNEL), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (tmp_path / "jupyter" / "kernels" / "notebooks").mkdir(parents=True)
    (tmp_path / "jupyter" / "kernels" / "notebooks" / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "notebooks"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "no Java here"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    return "notebooks"


def run_notebook(name: str, lake: Lake, kernel: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a reader sees of a notebook that was run over a lake."""
    monkeypatch.setenv("NIGHTLOG_LAKE", lake.root)
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    NotebookClient(book, timeout=120, kernel_name=kernel, resources={"metadata": {"path": str(folder)}}).execute()
    return "\n".join(text_of(output) for cell in book.cells if cell.cell_type == "code" for output in cell.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_notebook_runs_on_the_sample(name: str, sample_lake: Lake, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(sample_lake.root).rglob("*")}
    printed = run_notebook(name, sample_lake, kernel, tmp_path, monkeypatch)
    for words in SHOWN[name]:
        assert words in printed
    assert not Tags(printed).open
    assert printed.count("data:image/svg+xml;base64,") >= 3
    assert {path: path.stat().st_mtime_ns for path in Path(sample_lake.root).rglob("*")} == before, "a notebook writes nothing"


@pytest.mark.slow
def test_the_model_card_is_about_the_general_model_where_no_model_was_trained(
    sample_lake: Lake, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(shutil.copytree(sample_lake.root, tmp_path / "lake"))
    rows = lake.rows(NIGHTS)
    for row in rows:
        lake.replace(NIGHTS, [row | {"versions": {"model": "general-1"}, "tau_curve": None}], ds=row["ds"], system=row["system"])
    printed = run_notebook("model_card", lake, kernel, tmp_path, monkeypatch)
    for words in ("no training", "public sets never fitted on", "weights of the unlikeness channels", "needs no router"):
        assert words in printed


def text_of(output: Any) -> str:
    """What a reader sees of an output; an error stream would be seen too."""
    assert output.output_type != "stream" or output.name == "stdout", output.text
    data = output.get("data", {})
    return str(output.get("text") or data.get("text/html") or data.get("text/plain", ""))


def test_without_a_night_one_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NIGHTLOG_LAKE"):
        open_lake(tmp_path)
    lake = Lake(tmp_path)
    lake.append(NIGHTS, [{"ds": ds, "system": "a", "outcome": out} for ds, out in (("2026-03-03", "done"), ("2026-03-04", "gated"))])
    assert night_or_last(open_lake(tmp_path)) == "2026-03-03"
    with pytest.raises(ConfigError, match="it has 2026-03-03"):
        night_or_last(lake, "2026-03-04")


def test_hostile_text_is_inert_in_tables_and_pictures() -> None:
    for line in ["</td><script>alert(1)</script>", "$\\mathbb{X}$ \u202egnp", *hostile_lines("sql", "shell", "formula")]:
        page = table([{line: line, "n": 1}]).html + picture(columns([Column(line, 1)], line)).html
        chart = base64.b64decode(re.search('base64,([^"]*)', page)[1]).decode()  # type: ignore[index]
        assert not Tags(page).open and not Tags(chart).open
        assert {tag for tag, _ in Tags(page).seen} <= {
            *["table", "thead", "tbody", "tr", "th", "td", "span", "figure", "figcaption", "img", "p"]
        }
        assert {tag for tag, _ in Tags(chart).seen} <= {*["svg", "style", "path", "rect", "title", "text"]}
        assert "tex2jax_ignore" in page and "\u202e" not in page


def test_tables_say_how_much_they_leave_out() -> None:
    page = table([{"n": number} for number in range(7)], limit=3).html
    assert page.count("<tr>") == 4 and "4 rows more" in page
    assert table([]).html == "<p>no rows</p>"
    assert "1,234" in table([{"n": 1234}]).html and ">–<" in table([{"n": None}]).html


def test_a_time_line_has_a_dot_an_event_in_its_place() -> None:
    chart = timeline(
        [Track("begin", [0.0]), Track("again and again and again, for ever", [0.5, 1.0], strong=True)], "10:00", "10:07", "about"
    )
    found = [float(x) for x in re.findall(r'<circle class="dot c\d" cx="([\d.]+)"', chart)]
    assert found[1] - found[0] == pytest.approx(found[2] - found[1]) and len(found) == 3
    assert chart.count('"dot c1"') == 2 and "10:07" in chart
    assert len(short("again and again and again, for ever")) <= 24
