"""Lineage: the start and the end of each stage as OpenLineage events, with the tables that it reads and writes.

The client's own settings say where events go (`OPENLINEAGE_URL`, `openlineage.yml` and others); without them nothing is sent. A service
that cannot be reached never fails a stage.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from nightlog.lake import tables
from nightlog.lake.tables import TableSpec
from nightlog.outcomes import SUCCESSES, Outcome, OutcomeKind, Stage
from nightlog.settings import lineage_namespace

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient

log = logging.getLogger(__name__)
PRODUCER = "urn:nightlog"

# The tables that a stage reads and those that it writes. Log files are read by ingest.
READS: Mapping[Stage, tuple[TableSpec, ...]] = {
    Stage.INGEST: (tables.NIGHTS,),
    Stage.PARSE: (tables.FILES, tables.LINES_TABLE, tables.NIGHTS),
    Stage.EMBED: (tables.TEMPLATES,),
    Stage.ROUTE: (tables.PATTERNS, tables.VECTORS),
    Stage.DETECT: (tables.PATTERNS, tables.ROUTES, tables.TEMPLATES, tables.TEMPLATE_COUNTS),
    Stage.LABEL: (tables.PATTERNS, tables.ROUTES, tables.SCORES, tables.HISTORY, tables.TEMPLATES, tables.TEMPLATE_COUNTS),
    Stage.PUBLISH: (tables.LINES_TABLE, *tables.SILVER, tables.ANSWERS),
    Stage.REPORT: (tables.FILES, tables.LINES_TABLE, *tables.SILVER, tables.ANOMALIES, tables.FINDINGS, tables.NIGHTS),
}
WRITES: Mapping[Stage, tuple[TableSpec, ...]] = {
    Stage.INGEST: (tables.FILES, tables.LINES_TABLE, tables.LABELS),
    Stage.PARSE: (
        tables.MESSAGES,
        tables.TEMPLATES,
        tables.EVENTS_TABLE,
        tables.COUNTS_TABLE,
        tables.SESSIONS,
        tables.PATTERNS,
        tables.NUMBERS,
        tables.READINGS,
        tables.TEMPLATE_COUNTS,
        tables.WAITING,
        tables.QUARANTINE,
    ),
    Stage.EMBED: (tables.VECTORS,),
    Stage.ROUTE: (tables.ROUTES,),
    Stage.DETECT: (tables.SCORES, tables.HISTORY),
    Stage.LABEL: (tables.VERDICTS, tables.LLM_CALLS, tables.LLM_BATCHES),
    Stage.PUBLISH: (tables.ANOMALIES, tables.FINDINGS, tables.NIGHTS),
    Stage.REPORT: (tables.SIGNALS, tables.INCIDENTS, tables.HANDOFFS),
}


@dataclass(frozen=True)
class Place:
    """The place of a stage: the night, the run, and the roots of the lake and of the log files."""

    ds: str
    run_id: str
    lake: str
    logs: str


def with_lineage(stage: Stage, place: Place, outcomes: Iterator[Outcome], clock: Callable[[], datetime]) -> Iterator[Outcome]:
    """Pass on the outcomes of a stage's systems, and report when it begins and ends.

    It has failed if a system of it failed; the message names systems and outcomes, and holds no text of theirs.
    """
    namespace = lineage_namespace()
    client = make_client() if namespace is not None else None
    if namespace is None or client is None:
        yield from outcomes
        return
    from openlineage.client.event_v2 import RunState
    from openlineage.client.uuid import generate_new_uuid

    stage_id = str(generate_new_uuid())
    troubles: list[str] = []

    def emit(state: RunState) -> None:
        send(client, event(state, stage, place, namespace, stage_id, clock(), "; ".join(troubles)))

    emit(RunState.START)
    try:
        for outcome in outcomes:
            if outcome.outcome not in (*SUCCESSES, OutcomeKind.NO_INPUT):
                troubles.append(f"{outcome.system}: {outcome.outcome}")
            yield outcome
    except BaseException as error:
        troubles.append(type(error).__name__)
        raise
    finally:
        emit(RunState.FAIL if troubles else RunState.COMPLETE)
        client.close(timeout=10)


def make_client() -> OpenLineageClient | None:
    """Return the client, None if its package is not installed or refuses its settings."""
    try:
        from openlineage.client import OpenLineageClient

        return OpenLineageClient()
    except ModuleNotFoundError:
        log.warning("a transport for OpenLineage is configured, and its package is missing: pip install 'nightlog[openlineage]'")
    except Exception as error:
        log.warning("no lineage events: %s", type(error).__name__)
    return None


def send(client: OpenLineageClient, found: Any) -> None:
    """Send an event. An error is logged without its text, which may hold the address and its key."""
    try:
        client.emit(found)
    except Exception as error:
        log.warning("a lineage event was not sent: %s", type(error).__name__)


def event(state: Any, stage: Stage, place: Place, namespace: str, stage_id: str, at: datetime, trouble: str) -> Any:
    """Return the event of a stage. Its parent is the night's run, the same for all stages of a run id."""
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent
    from openlineage.client.facet_v2 import error_message_run, nominal_time_run, parent_run

    next_day = (date.fromisoformat(place.ds) + timedelta(days=1)).isoformat()
    night_id = str(uuid5(NAMESPACE_URL, f"{namespace}/{place.ds}/{place.run_id}"))
    night = parent_run.ParentRunFacet(parent_run.Run(night_id), parent_run.Job(namespace, "nightlog"), producer=PRODUCER)
    facets: dict[str, Any] = {
        "nominalTime": nominal_time_run.NominalTimeRunFacet(f"{place.ds}T00:00:00Z", f"{next_day}T00:00:00Z", producer=PRODUCER),
        "parent": night,
    }
    if trouble:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(trouble, "Python", producer=PRODUCER)
    inputs = [InputDataset(*dataset(place.lake, spec.path)) for spec in READS[stage]]
    inputs += [InputDataset(*dataset(place.logs, ""))] if stage == Stage.INGEST else []
    outputs = [OutputDataset(*dataset(place.lake, spec.path)) for spec in WRITES[stage]]
    return RunEvent(
        eventTime=at.isoformat(),
        producer=PRODUCER,
        run=Run(stage_id, facets),
        job=Job(namespace, f"nightlog.{stage}"),
        eventType=state,
        inputs=inputs,
        outputs=outputs,
    )


def dataset(root: str, path: str) -> tuple[str, str]:
    """Return namespace and name of a data set, as OpenLineage names files.

    >>> dataset("/srv/lake", "gold/nights"), dataset("s3://bucket/lake", "gold/nights"), dataset("/var/log", "")
    (('file', '/srv/lake/gold/nights'), ('s3://bucket', 'lake/gold/nights'), ('file', '/var/log'))
    """
    parts = urlsplit(root)
    full = "/".join(part for part in (parts.path.rstrip("/"), path) if part)
    return (f"{parts.scheme}://{parts.netloc}", full.lstrip("/")) if parts.scheme in ("s3", "s3a", "gs", "abfss") else ("file", full)
