"""PostgreSQL: a shop's database."""

from __future__ import annotations

from recorder.plan import Entry
from recorder.programs.postgres.faults import FAULTS
from recorder.programs.postgres.load import ORDINARY
from recorder.programs.postgres.server import Postgres

ENTRY = Entry(Postgres, ORDINARY, FAULTS)
