"""The programs that are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recorder import (
    dovecot,
    dovecot_faults,
    dovecot_load,
    postfix,
    postfix_faults,
    postfix_load,
    postgres,
    postgres_faults,
    postgres_load,
)
from recorder.plan import Repertoire
from recorder.program import Program


@dataclass(frozen=True)
class Entry:
    """A program, where it listens, what can happen to it, and its share of the acts a day."""

    program: type[Program]
    address: tuple[str, int]
    repertoire: Repertoire[Any]
    share: float = 1.0


PROGRAMS = {
    "postgres": Entry(postgres.Postgres, postgres.SERVER, Repertoire(postgres_load.ORDINARY, postgres_faults.FAULTS)),
    "postfix": Entry(postfix.Postfix, postfix.SERVER, Repertoire(postfix_load.ORDINARY, postfix_faults.FAULTS)),
    "dovecot": Entry(dovecot.Dovecot, dovecot.SERVER, Repertoire(dovecot_load.ORDINARY, dovecot_faults.FAULTS), share=1.45),
}
