"""Dovecot: an organisation's mailboxes."""

from __future__ import annotations

from recorder.plan import Entry
from recorder.programs.dovecot.faults import FAULTS
from recorder.programs.dovecot.load import ORDINARY
from recorder.programs.dovecot.server import Dovecot

ENTRY = Entry(Dovecot, ORDINARY, FAULTS, per_day=1450)
