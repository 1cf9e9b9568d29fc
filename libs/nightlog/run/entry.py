"""The parts that all jobs share: arguments in, one stage for all systems, exit code out."""

from __future__ import annotations

import argparse
import atexit
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from nightlog.errors import NightlogError, is_transient
from nightlog.ingest.discover import present_systems
from nightlog.lake.lake import Lake
from nightlog.lake.runner import LOCAL_BYTES, LOCAL_BYTES_ONE_MACHINE
from nightlog.lake.storage import clear_storage_errors
from nightlog.lake.tables import NIGHTS
from nightlog.outcomes import EXIT_DONE, EXIT_TRANSIENT, Outcome, Stage, exit_code
from nightlog.run.context import utc_now
from nightlog.run.night import Night
from nightlog.run.stages import STEPS
from nightlog.settings import Profile, Settings, settings_from
from nightlog.spark import profile_of
from nightlog.systems.catalog import choose, load_catalog, own_files, parse_system
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


def end_quickly() -> None:
    """Spare the interpreter its last search for garbage, among all objects of torch and Great Expectations: two seconds for nothing.

    DuckDB, if the process has used it, would report all that is not collected on standard error.
    """
    if "duckdb" not in sys.modules:
        gc.freeze()


atexit.register(end_quickly)


def arguments(description: str, with_ds: bool = True) -> argparse.ArgumentParser:
    """The command line of a job. What is not given comes from the environment (`NIGHTLOG_…`), then from the defaults."""
    parser = argparse.ArgumentParser(description=description)
    if with_ds:
        parser.add_argument("--ds", required=True, help="the night's day, YYYY-MM-DD")
    parser.add_argument(
        "--system", "--systems", dest="systems", default="", help="names of systems, separated by commas; default: all targets"
    )
    parser.add_argument("--lake", type=Path, help="folder of the tables")
    parser.add_argument("--data", type=Path, help="folder of the log files")
    parser.add_argument("--run-id", help="name of the run; a retry under the same name does not repeat what was finished")
    parser.add_argument("--master", help="Spark master")
    parser.add_argument("--profile", choices=get_args(Profile), help="how Spark is set; default: local where the master is, else cluster")
    return parser


def chosen_systems(settings: Settings, names: str) -> list[System]:
    """Return the named systems; without names the user's own targets, or else the targets that ship and have files (`present_systems`)."""
    catalog = load_catalog(settings.systems)
    if wanted := [name.strip() for name in names.split(",") if name.strip()]:
        return choose(catalog, wanted)
    own = set(load_own(settings))
    targets = [system for system in catalog.values() if system.role == "target" and (not own or system.name in own)]
    nights = Lake(settings.lake).rows(NIGHTS, ["system", "outcome"])
    return targets if own else present_systems(targets, settings.logs, nights)


def load_own(settings: Settings) -> list[str]:
    """Return the names of the systems in the user's own folder."""
    if settings.systems is None:
        return []
    return [parse_system(path.read_text(encoding="utf-8"), str(path)).name for path in own_files(settings.systems)]


def local_bytes(settings: Settings) -> float:
    """Return the bytes of text up to which work is done on this machine, see `nightlog.lake.runner`.

    Where `spark-submit` has started Spark, its master is not known yet, and may be a cluster.
    """
    if settings.local_mib is not None:
        return int(settings.local_mib * 2**20)
    one_machine = profile_of(settings.master) == "local" and "PYSPARK_GATEWAY_PORT" not in os.environ
    return LOCAL_BYTES_ONE_MACHINE if one_machine else LOCAL_BYTES


@contextmanager
def open_lake(settings: Settings, app: str, with_spark: bool = True) -> Iterator[Lake]:
    """The lake; a Spark session is started when one is first needed, and ends with the block. What libraries say of a disk or an
    object store is raised in our words, see `clear_storage_errors`."""
    if not with_spark:
        lake = Lake(settings.lake)
        with clear_storage_errors(lake.root):
            yield lake
        return

    def start() -> SparkSession:
        from nightlog.spark import start_spark

        return start_spark(app, settings.master, settings.driver_memory, settings.profile)

    lake = Lake(settings.lake, start, local_bytes(settings))
    try:
        with clear_storage_errors(lake.root):
            yield lake
    finally:
        lake.close()


def new_run_id(ds: str) -> str:
    """Return a name for a run that was started manually."""
    return f"manual__{ds}__{datetime.now(UTC):%Y%m%dT%H%M%S%f}"


def log_to_stderr() -> None:
    """Write Nightlog's own log from INFO on, that of its libraries from WARNING on, whatever level they set for themselves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.split(".")[0] == "nightlog")
    logging.basicConfig(level=logging.WARNING, handlers=[handler], format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("nightlog").setLevel(logging.INFO)


def show(outcome: Outcome) -> None:
    """One line a system on standard output."""
    counts = " ".join(f"{name}={n}" for name, n in outcome.counts.items())
    print(f"{outcome.system} {outcome.stage} {outcome.outcome} {outcome.seconds:.1f}s {counts} {outcome.detail or ''}".rstrip(), flush=True)


def exit_code_of(work: Callable[[], int]) -> int:
    """The exit code of a job's work: its own, or that of what it raises. What is neither ours nor known to pass is a crash, and raised."""
    log_to_stderr()
    try:
        return work()
    except NightlogError as error:
        print(f"nightlog: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if not is_transient(error):
            raise
        log.exception("worth another try")
        return EXIT_TRANSIENT


def run_teaching(work: Callable[[Settings, str, Callable[[str], None]], None], description: str, argv: Sequence[str] | None = None) -> int:
    """Run a job about models: `work(settings, names of systems, tell)`. Returns the exit code."""
    given = arguments(description, with_ds=False).parse_args(argv)

    def teach() -> int:
        settings = settings_from(lake=given.lake, data=given.data, master=given.master, profile=given.profile)
        work(settings, given.systems, lambda text: print(text, flush=True))
        return EXIT_DONE

    return exit_code_of(teach)


def run_stage(stage: Stage, description: str, argv: Sequence[str] | None = None) -> int:
    """Run one stage of one night for its systems. Returns the exit code: 0, 10, 20, 30 or 40."""
    parser = arguments(description)
    parser.add_argument("--fewer-lines", action="store_true", help="let stage ingest replace a published night by one with fewer lines")
    parser.add_argument("--read-again", action="store_true", help="let stages ingest and parse read files and lines that have not changed")
    given = parser.parse_args(argv)

    def run() -> int:
        settings = settings_from(lake=given.lake, data=given.data, master=given.master, profile=given.profile)
        needs = STEPS[stage].needs
        if settings.profile == "gpu" and "gpu" not in needs:
            settings = settings.model_copy(update={"profile": "cluster"})
        systems = chosen_systems(settings, given.systems)
        with open_lake(settings, f"nightlog {stage}", "spark" in needs) as lake:
            run_id = given.run_id or new_run_id(given.ds)
            night = Night(given.ds, run_id, systems, lake, settings, utc_now, fewer_lines=given.fewer_lines, read_again=given.read_again)
            kinds = []
            for outcome in night.run_stage(stage):
                show(outcome)
                kinds.append(outcome.exit_kind)
            return exit_code(kinds, len(systems))

    return exit_code_of(run)
