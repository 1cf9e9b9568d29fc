"""State of the night that a command shows: decided here for all reading commands, so that none of them looks calm about an ill night."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightlog.cli.app import settings_from, warn
from nightlog.errors import NotThere
from nightlog.lake.lake import Lake
from nightlog.lake.tables import NIGHTS, OUTCOMES
from nightlog.outcomes import EXIT_DONE, EXIT_NOT_THERE, OutcomeKind, exit_code, is_published
from nightlog.publishing.account import input_sentence, next_step, unjudged_sentence

Row = Mapping[str, Any]
WORDS = {
    OutcomeKind.INCOMPLETE: "incomplete: some sessions were judged by nobody",
    OutcomeKind.NO_INPUT: "no input: there was no file to read",
    OutcomeKind.GATED: "gated: a quality gate held it back, nothing of it is published",
    OutcomeKind.FAILED: "failed: nothing of it is published",
    OutcomeKind.TRANSIENT: "failed, run it again: nothing of it is published",
}

LATER_NIGHTS = 5  # after the last published night, the most that have a message


@dataclass(frozen=True)
class NightState:
    """A night as readers find it.

    `ds`: the night, the last published one if none was named; empty if there is none. `published`: the systems that have something to show.
    `messages`: what a reader has to know before trusting it. `exit_code`: 0 only if all of the night is published and complete.
    `is_known`: the lake has at least an outcome of it.
    """

    ds: str
    published: tuple[str, ...]
    messages: tuple[str, ...]
    exit_code: int
    is_known: bool = True

    def warn(self) -> None:
        """Print the messages."""
        for message in self.messages:
            warn(message)


def open_night(lake: Path | None, ds: str, system: str) -> tuple[Lake, NightState]:
    """Open the lake of a command for reading, and print the messages about the night. Args: the options --lake, --ds and --system."""
    settings = settings_from(lake=lake)
    tables = Lake(settings.lake)
    state = night_state(tables, settings.systems, ds, system)
    state.warn()
    return tables, state


def night_state(lake: Lake, systems_folder: Path | None, ds: str = "", system: str = "") -> NightState:
    """Return the state of a night of one system, or of all.

    Args: systems_folder: the user's system files, to distinguish an unknown system from one that was never run; ds: the night, empty for
    the last published one; system: its name, empty for all.
    """
    rows = lake.rows(NIGHTS)
    own = [row for row in rows if system in ("", row["system"])]
    if system and not own and (message := unknown_system(system, {row["system"] for row in rows}, systems_folder)):
        return NightState(ds, (), (message,), EXIT_NOT_THERE, is_known=False)
    nights = sorted({row["ds"] for row in own if is_published(row["outcome"])})
    night = ds or (nights[-1] if nights else max((row["ds"] for row in own), default=""))
    tonight = sorted((row for row in own if row["ds"] == night), key=lambda row: str(row["system"]))
    stages = sorted((row for row in lake.rows(OUTCOMES, ds=night) if system in ("", row["system"])), key=lambda row: row["at"])
    unpublished = unpublished_messages(night, stages, {row["system"] for row in tonight})
    if not tonight and not unpublished:
        where = f"; published nights: {nights[0]} to {nights[-1]}" if nights else "; no night was published yet: `nightlog run --ds DAY`"
        message = f"{f'{system}: ' if system else ''}{f'night {night} was never run' if night else 'no night was run yet'}"
        return NightState(night, (), (f"{message} in {lake.root}{where}",), EXIT_NOT_THERE, is_known=False)
    later = sorted((row for row in own if row["ds"] > night), key=lambda row: str(row["ds"])) if not ds else []
    messages = [message for row in tonight for message in (*outcome_messages(row), *later_run_messages(row, stages))] + unpublished
    messages += [
        f"{message}; shown is {night}, the last published night" for row in later[-LATER_NIGHTS:] for message in outcome_messages(row)
    ]
    missing = bool(unpublished) or any(is_due(row, own) for row in [*tonight, *later])
    published = tuple(row["system"] for row in tonight if is_published(row["outcome"]))
    code = exit_code([str(row["outcome"]) for row in [*tonight, *later]])
    return NightState(night, published, tuple(messages), code or (EXIT_NOT_THERE if missing or not published else EXIT_DONE))


def check_known(lake: Lake, system: str) -> None:
    """Check that the lake has a night of the system, or of any system if none is named. Raises NotThere."""
    state = night_state(lake, settings_from().systems, "", system)
    if not state.is_known:
        raise NotThere("; ".join(state.messages))


def joint_state(*states: NightState) -> NightState:
    """Return the state of nights that are read together: the systems that all of them have, the first exit code that is not 0."""
    published = set(states[0].published).intersection(*(each.published for each in states[1:]))
    messages = tuple(dict.fromkeys(message for each in states for message in each.messages))
    code = next((each.exit_code for each in states if each.exit_code), EXIT_DONE)
    known = all(each.is_known for each in states)
    return NightState(states[-1].ds, tuple(sorted(published)), messages, code if published or code else EXIT_NOT_THERE, known)


def unknown_system(name: str, in_lake: Iterable[str], folder: Path | None) -> str | None:
    """Return the message for a system that neither the lake nor the catalogue has, None if one of them has it."""
    from nightlog.systems.catalog import load_catalog, nearest

    known = sorted({*in_lake, *load_catalog(folder)})
    return None if name in known else f"unknown system `{name}`{nearest(name, known)}; known: {', '.join(known)}"


def outcome_messages(row: Row) -> list[str]:
    """Return the message about a row of gold.nights, none for a night that is done and whose sessions were all judged."""
    if (sentence := input_sentence(row)) is not None:
        return [f"{row['system']} {row['ds']}: incomplete: {sentence}. To do: see why no file was delivered, then run the night again"]
    if (sentence := unjudged_sentence(row)) is not None:
        incomplete = "incomplete: " * (row["outcome"] == OutcomeKind.INCOMPLETE)
        return [f"{row['system']} {row['ds']}: {incomplete}{sentence}. To do: {next_step(row)}"]
    if row["outcome"] == OutcomeKind.DONE:
        return []
    detail = f" ({row['detail']})" if row["detail"] else ""
    return [f"{row['system']} {row['ds']}: {WORDS.get(row['outcome'], row['outcome'])}{detail}"]


def later_run_messages(row: Row, stages: Sequence[Row]) -> list[str]:
    """Return the message about a run that failed after the night was published. Args: stages: rows of ops.outcomes, the oldest first."""
    last = next((each for each in reversed(stages) if each["system"] == row["system"]), None)
    if last is None or not is_published(row["outcome"]) or is_published(last["outcome"]) or last["run_id"] == row["run_id"]:
        return []
    ending = f"{last['stage']} {last['outcome']}" + (f" ({last['detail']})" if last["detail"] else "")
    return [f"{row['system']} {row['ds']}: this is what run {row['run_id']} published; the later run {last['run_id']} ended in {ending}"]


def unpublished_messages(ds: str, stages: Sequence[Row], in_gold: set[str]) -> list[str]:
    """Return a message for each system that was begun and has no row in gold.nights: its run is under way, or it broke off."""
    last = {str(row["system"]): row for row in stages if row["system"] not in in_gold}
    return [
        f"{name} {ds}: not published yet: the last stage was {row['stage']}, {row['outcome']}"
        + (f" ({row['detail']})" if row["detail"] else "")
        for name, row in sorted(last.items())
    ]


def is_due(row: Row, rows: Sequence[Row]) -> bool:
    """Return True for a night without input of a system that was published before. Args: rows: the rows of gold.nights."""
    if row["outcome"] != OutcomeKind.NO_INPUT:
        return False
    return any(each["system"] == row["system"] and each["ds"] < row["ds"] and is_published(each["outcome"]) for each in rows)
