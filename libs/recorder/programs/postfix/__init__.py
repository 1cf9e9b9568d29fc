"""Postfix: an organisation's mail server."""

from __future__ import annotations

from recorder.plan import Entry
from recorder.programs.postfix.faults import FAULTS
from recorder.programs.postfix.load import ORDINARY
from recorder.programs.postfix.server import Postfix

ENTRY = Entry(Postfix, ORDINARY, FAULTS)
