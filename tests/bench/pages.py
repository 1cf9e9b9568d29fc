"""The cost of pages: `python tests/bench/pages.py`. Seconds to write them, their size, and seconds until Chromium has them on the screen.

Two lakes: 300,000 anomalous sessions in 3,000 findings of one night, and 400 nights of 50 systems, for the calendar alone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "pages"))

from nightlog.lake.lake import Lake
from nightlog.lake.tables import NIGHTS, OUTCOMES
from nightlog.pages.calendar import write_calendar
from nightlog.pages.page import write_pages
from page_lake import DS, NOON, STAGES, big_lake
from test_pages_browser import driven

N_NIGHTS, N_SYSTEMS = 400, 50


def calendar_lake(folder: Path) -> tuple[Lake, dict[str, frozenset[str]]]:
    """Return a lake of nights without anything in them, and the pages that it would have."""
    lake = Lake(folder)
    days = [(date.fromisoformat(DS) - timedelta(days=n)).isoformat() for n in range(N_NIGHTS)]
    names = [f"system-{number:02}" for number in range(N_SYSTEMS)]
    row = {"outcome": "done", "n_anomalies": 3, "n_unjudged": 0, "n_sessions": 1000, "run_at": NOON, "run_id": "r"}
    lake.append(NIGHTS, [row | {"ds": ds, "system": name} for ds in days for name in names])
    ended = [{"stage": stage, "outcome": "done", "seconds": 1.0, "at": NOON + timedelta(minutes=n)} for n, stage in enumerate(STAGES)]
    lake.append(OUTCOMES, [each | {"ds": ds, "system": name, "run_id": "r"} for ds in days for name in names for each in ended])
    return lake, {ds: frozenset({"index.html", *(f"{name}.html" for name in names)}) for ds in days}


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of some work."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def opened(folder: Path, page: Path) -> str:
    """Return the seconds until Chromium has loaded and laid out a page, the best of three."""
    if shutil.which("chromium") is None:
        return "no Chromium"
    try:
        return f"{min(driven(folder, page.as_uri(), '() => 0')['loaded'] for _ in range(3)) / 1000:.2f}"
    except subprocess.CalledProcessError as error:
        return f"Chromium ended with {error.returncode}"


def main() -> None:
    """Print a row per page."""
    print("| page | written, s | MB | opened, s |\n|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        big = big_lake(str(folder / "big"))
        seconds = timed(lambda: write_pages(big, DS))
        for name in ("big", "index"):
            page = Path(big.root, "reports", DS, f"{name}.html")
            written = f"{seconds:.1f}" if name == "big" else "with it"
            print(f"| {name}.html of 300,000 anomalous sessions | {written} | {page.stat().st_size / 1e6:.2f} | {opened(folder, page)} |")
        lake, pages = calendar_lake(folder / "calendar")
        seconds = timed(lambda: write_calendar(lake, pages))
        page = Path(lake.root, "reports", "index.html")
        size = page.stat().st_size / 1e6
        print(f"| calendar of {N_NIGHTS} nights, {N_SYSTEMS} systems | {seconds:.1f} | {size:.2f} | {opened(folder, page)} |")


if __name__ == "__main__":
    main()
