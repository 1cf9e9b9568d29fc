"""`make e2e`: nights by Airflow's real scheduler, which is killed half-way; the tables are held against those of `nightlog run`.

Two scheduled nights, a backfill of two beside them, a night by hand with `ds` and `systems`, and one whose configuration is wrong.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("e2e", "faults", "night", "")]

from nightlog.lake.lake import Lake  # noqa: E402
from nightlog.lake.tables import ANOMALIES, FINDINGS, HISTORY, INCIDENTS, NIGHTS, OUTCOMES  # noqa: E402
from nightlog.outcomes import Stage  # noqa: E402
from nights import add_toy_model  # noqa: E402
from processes import run  # noqa: E402
from services import Airflow  # noqa: E402
from world import CountingLLM, Logs, add_system, answer, repeated_keys, snapshot  # noqa: E402

OUT = ROOT / "build" / "e2e"
SYSTEMS = ("mail", "shop")
DAG = "nightlog_nightly"
LIMIT_S = 1800.0  # for what takes some minutes where nobody else is at work


def days(now: datetime) -> dict[str, list[str]]:
    """Which nights are run how: the two last ones by the schedule (which makes none for a day that is not over), older ones otherwise."""
    over = now - timedelta(days=1, hours=2)

    def day(back: int) -> str:
        return (over - timedelta(days=back)).date().isoformat()

    return {"scheduled": [day(1), day(0)], "backfill": [day(12), day(11)], "manual": [day(6)]}


def rate_limited(_: object) -> object:
    return 429, {"error": {"code": "rate_limit_exceeded"}}, {"Retry-After": "1"}


def settings(lake: Path, llm: CountingLLM) -> dict[str, str]:
    return {
        "NIGHTLOG_LAKE": str(lake),
        "NIGHTLOG_DATA": str(OUT / "data"),
        "NIGHTLOG_SYSTEMS": str(OUT / "systems"),
        "NIGHTLOG_LLM": "openai",
        "NIGHTLOG_MASTER": "local[2]",
        "NIGHTLOG_DRIVER_MEMORY": "1g",
        "NIGHTLOG_RETRY_DELAY_S": "2",
        "OPENAI_BASE_URL": llm.url,
        "OPENAI_API_KEY": "sk-test-key-000000",
        "SPARK_SUBMIT_OPTS": "-XX:TieredStopAtLevel=1",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HUB_OFFLINE": "1",
    }


class Story:
    """What is told while it happens, and the time since it began."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def __call__(self, text: str) -> None:
        print(f"{time.monotonic() - self.started:5.0f} s  {text}", flush=True)


def by_airflow(airflow: Airflow, plan: dict[str, list[str]], tell: Story) -> None:
    """All runs. The first night founds all templates and is done before others begin, so that their order makes no difference; the
    scheduler is killed in the middle of the second."""

    def state(kind: str) -> list[str]:
        return [row[0] for row in airflow.rows("select state from dag_run where run_type = ? order by logical_date", [kind])]

    def running(task: str) -> bool:
        return bool(airflow.rows("select 1 from task_instance where task_id = ? and state = 'running'", [task]))

    airflow.call("dags", "unpause", "--yes", DAG)
    airflow.wait("the first scheduled night", lambda: state("scheduled")[:1] == ["success"], LIMIT_S)
    tell("the first scheduled night is done")
    airflow.wait("the second night's parsing", lambda: running("parse"), LIMIT_S)
    time.sleep(3)
    airflow.kill_scheduler()
    tell("the scheduler was killed while the second scheduled night was parsed")
    # While it is down, and the DAG processor too: a backfill's transaction reads before it writes, and SQLite turns it down at once if
    # another process has written in between.
    airflow.stop("dag-processor")
    first, last = plan["backfill"][0], plan["backfill"][-1]
    end = (datetime.fromisoformat(last) + timedelta(days=1)).date().isoformat()
    airflow.call("backfill", "create", "--dag-id", DAG, "--from-date", first, "--to-date", end, "--max-active-runs", "1")
    (manual,) = plan["manual"]
    airflow.call("dags", "trigger", DAG, "--run-id", "by-hand", "--conf", f'{{"ds": "{manual}", "systems": "shop"}}')
    airflow.call("dags", "trigger", DAG, "--run-id", "wrong", "--conf", f'{{"ds": "{manual}", "systems": "nosuch"}}')
    tell("a backfill, a night by hand and one with a system that there is not are waiting")
    for part in ("dag-processor", "scheduler"):
        airflow.start(part)
    wanted = {"scheduled": len(plan["scheduled"]), "backfill": len(plan["backfill"]), "manual": 2}

    def through() -> bool:
        found = {kind: state(kind) for kind in wanted}
        return all(len(each) == wanted[kind] and set(each) <= {"success", "failed"} for kind, each in found.items())

    airflow.wait("all runs", through, LIMIT_S)
    tell("all runs are through")


def found_wrong(airflow: Airflow) -> list[str]:
    """What Airflow's own tables must say: which runs went well, what was tried again and what was not, and that nights did not wait."""
    wrong = []
    states = dict(airflow.rows("select run_id, state from dag_run"))
    bad = {run_id: state for run_id, state in states.items() if state != ("failed" if run_id == "wrong" else "success")}
    if bad:
        wrong.append(f"runs that did not end as due: {bad}")
    tries = airflow.rows("select task_id, try_number, state from task_instance where run_id = 'wrong' and task_id != 'report_outcomes'")
    if any((number, state) != (1, "failed") for _, number, state in tries) or len(tries) != len(Stage):
        wrong.append(f"a configuration error was tried again: {tries}")
    again = airflow.rows("select run_id, task_id, try_number from task_instance where try_number > 1")
    if not again:
        wrong.append("nothing was tried again, though the scheduler was killed with a task under way")
    night, backfill = (
        airflow.rows("select start_date, end_date from dag_run where run_type = ? order by logical_date", [kind])
        for kind in ("scheduled", "backfill")
    )
    if not (night[1][0] < backfill[-1][1] and backfill[0][0] < night[1][1]):
        wrong.append(f"the second night and the backfill waited for each other: {night[1]}, {backfill}")
    same = airflow.rows(
        "select a.run_id, b.run_id, a.task_id from task_instance a join task_instance b"
        " on a.task_id = b.task_id and a.run_id < b.run_id and a.start_date < b.end_date and b.start_date < a.end_date"
        " where a.task_id != 'report_outcomes'"
    )
    return wrong + ([f"two tasks of a kind at once: {same}"] if same else [])


def order_of(lake: Lake) -> list[tuple[str, str]]:
    """(night, systems) in the order in which the LLM was asked about them."""
    rows = sorted((row for row in lake.rows(OUTCOMES) if row["stage"] == "label"), key=lambda row: row["at"])
    nights = list(dict.fromkeys(row["ds"] for row in rows))
    return [(ds, ",".join(sorted({row["system"] for row in rows if row["ds"] == ds}))) for ds in nights]


def one_by_one(lake: Path, order: list[tuple[str, str]], llm: CountingLLM) -> None:
    """The same nights by `nightlog run`, one after the other."""
    programs = [["nightlog", "run", "--ds", ds, "--systems", systems] for ds, systems in order]
    for number, program in enumerate(programs):
        ended = run([program], settings(lake, llm), OUT / "logs" / f"run-{number}")
        if ended.code:
            raise RuntimeError(f"{program} ended with {ended.code}\n{ended.said[-3000:]}")


def main() -> int:
    """Returns 1 where something is not as it should be, and says what."""
    tell = Story()
    shutil.rmtree(OUT, ignore_errors=True)
    plan = days(datetime.now(UTC))
    for name in SYSTEMS:
        add_system(OUT, name, Logs(40, days=tuple(day for some in plan.values() for day in some)))
    lakes = {name: OUT / "lakes" / name for name in ("airflow", "one-by-one")}
    for lake in lakes.values():
        add_toy_model(Lake(lake))
    llm = CountingLLM()
    llm.reactions = [rate_limited, rate_limited, answer]  # type: ignore[list-item]
    environment = {
        **settings(lakes["airflow"], llm),
        "E2E_FIRST_NIGHT": plan["scheduled"][0],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    with Airflow(OUT / "airflow", environment) as airflow:
        tell("Airflow runs")
        try:
            by_airflow(airflow, plan, tell)
        finally:
            (OUT / "states.txt").write_text(airflow.states(), encoding="utf-8")
        wrong = found_wrong(airflow)
    made = Lake(lakes["airflow"])
    order = order_of(made)
    tell(f"the same nights one by one: {order}")
    other = CountingLLM()
    one_by_one(lakes["one-by-one"], order, other)
    found, wanted = snapshot(made), snapshot(Lake(lakes["one-by-one"]))
    # A night's history is what the lake holds of earlier nights when its stage `detect` runs: beside a backfill that is part of one. So
    # scores, and what findings know of earlier nights, may differ from those of nights one by one, and only the keys are compared.
    for spec in (HISTORY, FINDINGS, INCIDENTS):
        found[spec.name], wanted[spec.name] = (
            Counter(str([row[key] for key in spec.key]) for row in lake.rows(spec, list(spec.key)))
            for lake in (made, Lake(lakes["one-by-one"]))
        )
    wrong += [
        f"{name}: {(wanted[name] - found[name]).total()} rows lost, {(found[name] - wanted[name]).total()} too many"
        for name in wanted
        if found[name] != wanted[name]
    ]
    wrong += [f"{n} rows stand there twice" for n in [repeated_keys(made)] if n]
    twice = [name for name, n in (llm.questions(since=2)).items() if n > 1]
    wrong += [f"{len(twice)} questions were asked twice"] if twice else []
    wrong += ["the rate limit was not tried again"] if len(llm.requests) <= 2 else []
    nights = Counter(row["ds"] for row in made.rows(NIGHTS))
    told = f"{sum(nights.values())} nights of systems, {len(made.rows(ANOMALIES))} anomalies, {len(llm.requests)} requests to the LLM"
    tell(f"{told}; " + ("the tables are the same" if not wrong else "NOT as it should be:\n" + "\n".join(wrong)))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
