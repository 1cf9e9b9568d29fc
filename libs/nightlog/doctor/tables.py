"""The lake: reachable, writable, closed to strangers; its tables are as this version writes them, its models unaltered."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nightlog.detector.calibration import Calibration
from nightlog.detector.manifest import manifest_in
from nightlog.doctor import CheckResult, error, ok, warning
from nightlog.errors import NightlogError, SchemaMismatch
from nightlog.history.general import general
from nightlog.lake.lake import Lake
from nightlog.lake.locks import check_leases, has_leases
from nightlog.lake.maintain import leftovers
from nightlog.lake.schema import missing_columns
from nightlog.lake.storage import file_system, half_written_files, read_file
from nightlog.lake.tables import ALL_TABLES, MODELS, ModelRow, TableSpec
from nightlog.systems.spec import System

if TYPE_CHECKING:
    from deltalake import DeltaTable


AREA = "lake"
READER, WRITER = 1, 2  # Delta's protocol that every reader of the lake can follow
MANY_FILES, MANY_LEFTOVERS = 2000, 100
RECOVER = "see docs/how-to/recover.md"
MODELS_AREA = "models"
AGAIN = "restore the file from a copy of the lake, or train again: nightlog train, nightlog retrain"
NAME_A_JUDGE = "name an LLM (OPENAI_API_KEY, docs/reference/settings.md) or answer its questions (nightlog questions)"
IN_MANIFEST = ("encoder", "tau", "threshold", "foreign_threshold", "shape", "source_texts", "sources")


def folder(lake: Lake) -> Iterator[CheckResult]:
    """Check that the lake can be reached, read and written, and by whom. A lake behind a URL is only listed."""
    root = lake.root
    if "://" in root:
        yield from remote(root)
        return
    place = Path(root)
    if not place.exists():
        above = next(each for each in place.absolute().parents if each.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield warning(AREA, "there is no lake yet", root, "the first night begins one (nightlog run), or name it: NIGHTLOG_LAKE")
        else:
            yield error(AREA, f"there is no lake, and {above} cannot be written", root, "name a folder of yours: NIGHTLOG_LAKE")
        return
    if not place.is_dir():
        yield error(AREA, "not a folder", root, "name the folder of the tables: NIGHTLOG_LAKE")
        return
    yield writable(place)
    yield closed(place)


def remote(root: str) -> Iterator[CheckResult]:
    """Check that an object store can be reached, and that its lake can have locks."""
    from pyarrow.fs import FileType

    try:
        files, inside = file_system(root)
        there = files.get_file_info(inside).type == FileType.Directory
    except Exception as trouble:
        yield error(AREA, f"cannot be reached: {one_line(trouble)}", root, "see the credentials and the address of the object store")
        return
    if not there:
        yield warning(AREA, "there is no lake yet", root, "the first night begins one: nightlog run")
        return
    yield ok(AREA, "can be reached", root)
    yield locks(root)


def locks(root: str) -> CheckResult:
    """Check that the lake's locks can be written, and that they keep a second process out."""
    if not has_leases(root):
        return warning(AREA, "this kind of store has no locks", root, "start only one program at a time that writes to the lake")
    try:
        check_leases(root)
    except NightlogError as trouble:
        return error(AREA, str(trouble), root, "see docs/how-to/run-on-a-cluster.md")
    return ok(AREA, "keeps a second process out (conditional writes)", root)


def writable(place: Path) -> CheckResult:
    """Check that a file can be made and removed in the lake."""
    probe = place / f".doctor-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as trouble:
        return error(AREA, f"cannot be written: {trouble.strerror}", str(place), "give it to the user that runs the nights, or make room")
    return ok(AREA, "can be read and written", str(place))


def closed(place: Path) -> CheckResult:
    """Check that strangers cannot read the log lines in the lake."""
    mode = stat.S_IMODE(place.stat().st_mode)
    if mode & stat.S_IWOTH:
        return error(AREA, f"anybody may write into it (mode {mode:o})", str(place), f"chmod 750 {place}")
    if mode & stat.S_IROTH:
        return warning(AREA, f"anybody may read the log lines in it (mode {mode:o})", str(place), f"chmod 750 {place}")
    return ok(AREA, f"closed to strangers (mode {mode:o})", str(place))


def tables(lake: Lake, replay_days: int, specs: Iterable[TableSpec] = ALL_TABLES) -> Iterator[CheckResult]:
    """Check each table that is there."""
    n, troubled = 0, 0
    for spec in specs:
        if not lake.exists(spec):
            continue
        n += 1
        found = list(table(lake, spec, replay_days))
        troubled += bool(found)
        yield from found
    if n:
        yield ok(AREA, f"{n - troubled} of {n} tables are as this version writes them", lake.root)


def table(lake: Lake, spec: TableSpec, replay_days: int) -> Iterator[CheckResult]:
    """Yield the faults of one table."""
    where = lake.path(spec)
    try:
        opened = lake.table(spec)
        protocol = opened.protocol()
        opened.schema()
    except Exception as trouble:
        yield error(AREA, f"{spec.name} cannot be read: {one_line(trouble)}", where, f"restore it; {RECOVER}")
        return
    if protocol.min_reader_version > READER or protocol.min_writer_version > WRITER:
        message = f"{spec.name} has protocol {protocol.min_reader_version}/{protocol.min_writer_version}, expected {READER}/{WRITER}"
        yield error(AREA, message, where, f"another program has changed it: restore the version before, or rebuild it; {RECOVER}")
        return
    yield from columns(spec, opened, where)
    try:
        files = opened.file_uris()
        gone = [] if "://" in where else [path for path in files if not Path(path.removeprefix("file://")).exists()]
        left = leftovers(lake, spec, replay_days)
    except Exception as trouble:
        yield error(AREA, f"{spec.name} cannot be listed: {one_line(trouble)}", where, f"restore it; {RECOVER}")
        return
    if gone:
        yield error(AREA, f"{spec.name} lacks {len(gone)} of its {len(files)} files, e.g. {gone[0]}", where, f"restore them; {RECOVER}")
    if len(left) > MANY_LEFTOVERS:
        yield warning(AREA, f"{spec.name}: {len(left):,} files that no version needs", where, "run `nightlog maintain`, weekly by Airflow")
    if len(files) > MANY_FILES and "ds" not in spec.partition:
        yield warning(AREA, f"{spec.name} is made of {len(files):,} files", where, "run `nightlog maintain`, weekly by Airflow")


def columns(spec: TableSpec, opened: DeltaTable, where: str) -> Iterator[CheckResult]:
    """Report a table whose columns are not those of its spec; columns that it lacks are added by the next write."""
    try:
        missing_columns(spec, opened)
    except SchemaMismatch as mismatch:
        yield error(AREA, str(mismatch), where, f"restore the version before, or rebuild it; {RECOVER}")
    if strange := [field.name for field in opened.schema().fields if field.name not in spec.names]:
        yield warning(AREA, f"{spec.name} has unknown columns: {', '.join(strange)}", where, "see who writes into the lake")


def one_line(trouble: Exception) -> str:
    """Return an error in one line."""
    message = str(trouble) if isinstance(trouble, NightlogError) else f"{type(trouble).__name__}: {trouble}"
    return " ".join(message.split())[:300]


def models(lake: Lake) -> Iterator[CheckResult]:
    """Check that a model serves, and that the file of each serving model is the registered one."""
    rows = [row for row in lake.rows(MODELS) if row["status"] == "promoted"]
    if not any(row["system"] == "" for row in rows):
        shipped = f"no trained model: the general model that ships ({general().version}) is used; `nightlog train` is optional"
        yield ok(MODELS_AREA, shipped, lake.root)
    for row in sorted(rows, key=lambda row: str(row["system"])):
        yield model(f"{lake.root}/models/{row['version']}.safetensors", row)
    if parts := half_written_files(f"{lake.root}/models"):
        yield warning(MODELS_AREA, f"{len(parts)} half-written model files", parts[0], "remove .*.part there: a training broke off")


def unjudged_ahead(lake: Lake, systems: Iterable[System], is_llm_off: bool) -> Iterator[CheckResult]:
    """Yield the systems some of whose sessions tonight leaves unjudged: no LLM judges them, nor does their model.

    Such a night is incomplete, or, if the system's file wants no LLM, complete with unjudged sessions.
    """
    rows = {row["system"]: row for row in lake.rows(MODELS) if row["status"] == "promoted"}
    for system in systems:
        row = rows.get(system.name) or rows.get("")
        if system.llm.judges and not is_llm_off:
            continue
        if row is None:
            found = f"{system.name}: no LLM judges; the history flags anomalies; nobody judges the others until eight patterns are answered"
            yield warning(MODELS_AREA, found, lake.root, NAME_A_JUDGE)
            continue
        manifest = json.loads(row["manifest"])
        flags_foreign, flags_known = (
            Calibration(**manifest.get(calibration) or {}).reaches(manifest.get(threshold))
            for calibration, threshold in (("foreign", "foreign_threshold"), ("calibration", "threshold"))
        )
        if flags_foreign and flags_known:
            continue
        which = "none of its sessions" if not flags_foreign and not flags_known else "no session "
        which += "" if which.startswith("none") else "unlike the training systems" if flags_known else "like the training systems"
        found = f"{system.name}: no LLM judges, and model {row['version']} can flag {which}: these are judged by nobody"
        yield warning(MODELS_AREA, found, lake.root, f"{NAME_A_JUDGE}, or train again")


def model(path: str, row: ModelRow) -> CheckResult:
    """Check that a model's file is there, has the registered digest, and holds tensors and a manifest that this version reads."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    name = f"model {row['version']} for {row['system'] or 'all systems'}"
    try:
        content = read_file(path)
    except OSError as trouble:
        return error(MODELS_AREA, f"{name} cannot be read: {trouble}", path, AGAIN)
    if (digest := hashlib.sha256(content).hexdigest()) != row["sha256"]:
        return error(MODELS_AREA, f"{name} was altered: sha256 {digest[:16]}…, expected {row['sha256'][:16]}…", path, AGAIN)
    try:
        n_tensors, manifest = len(load(content)), manifest_in(content)
    except (SafetensorError, ValueError) as trouble:
        return error(MODELS_AREA, f"{name} cannot be loaded: {trouble}", path, AGAIN)
    if lacking := [key for key in IN_MANIFEST if key not in manifest]:
        return error(MODELS_AREA, f"{name} is of another version: its manifest lacks {', '.join(lacking)}", path, AGAIN)
    return ok(MODELS_AREA, f"{name}: {n_tensors} tensors, sha256 as registered", path)
