"""One commit, made once: whether it was made is asked of the table's log, not of the error.

A library reports a commit as failed that is in the log where what follows it fails, a checkpoint say, or where the answer of an object
store is lost. Whoever believes the error appends the rows a second time.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from nightlog.errors import CommitUnknown, first_line

if TYPE_CHECKING:
    from deltalake import CommitProperties

log = logging.getLogger(__name__)

# The name of a commit, in its own entry of the log. Transaction ids would do as well, but stay in the table's state for ever.
MARK = "nightlog_commit"
# More than others commit to a table while one commit is made.
LOOKED_AT = 100


def commit_once(path: str, write: Callable[[CommitProperties], None]) -> None:
    """Let `write` make one commit to the table at this path.

    Raises what it raises, if the commit is not in the log, and CommitUnknown where the log cannot be read then.
    """
    from deltalake import CommitProperties

    name = uuid.uuid4().hex
    try:
        write(CommitProperties(custom_metadata={MARK: name}))
    except Exception as error:
        try:
            there = landed(path, name)
        except Exception as unread:
            raise CommitUnknown(
                f"{path}: a commit failed ({first_line(error)}), and whether it was made cannot be read ({first_line(unread)}); "
                "run the stage again: it looks first at what is there"
            ) from error
        if not there:
            raise
        log.warning("%s: reported as failed, but the commit is in the table's log: %s", path, first_line(error))


def landed(path: str, name: str) -> bool:
    """Whether one of the table's last commits has this name."""
    from deltalake import DeltaTable

    return DeltaTable.is_deltatable(path) and any(each.get(MARK) == name for each in DeltaTable(path).history(LOOKED_AT))
