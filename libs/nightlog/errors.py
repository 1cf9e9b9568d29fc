"""The error tree. Every retry layer reads the class, every exit code comes from it.

A message says what, where (system, ds, file:line), got / expected, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nightlog.outcomes import EXIT_GATE, EXIT_NOT_THERE, EXIT_PERMANENT, EXIT_TRANSIENT, EXIT_USAGE, OutcomeKind


class NightlogError(Exception):
    """Base of all errors that Nightlog raises itself. Permanent unless a subclass says otherwise."""

    exit_code = EXIT_PERMANENT


class ConfigError(NightlogError):
    """A setting, a system file or an argument is wrong."""


class UsageError(ConfigError):
    """An argument or option of a command is wrong, or does not go with another one."""

    exit_code = EXIT_USAGE


class NotThere(ConfigError):
    """A night, run, system, session, pattern, template, table, version or file that was asked for does not exist."""

    exit_code = EXIT_NOT_THERE


class SettingsError(ConfigError):
    """Variables of the environment are wrong. `wrong`: each with the expected form; its value is not shown, it may be a key."""

    def __init__(self, wrong: Sequence[tuple[str, str]]):
        super().__init__("; ".join(f"{name}: {why}" for name, why in wrong) + "; correct or unset it, see docs/reference/settings.md")
        self.wrong = tuple(wrong)


class FormatError(NightlogError):
    """An input file cannot be read as what it claims to be."""


class SchemaMismatch(NightlogError):
    """A table does not have the columns that this version writes."""


class ModelIntegrityError(NightlogError):
    """A stored model is missing, altered or from another version."""


class BudgetExhausted(NightlogError):
    """The LLM budget of the night is spent, or the provider says that the quota is gone."""


class GateFailed(NightlogError):
    """A critical expectation failed, or the night is unlike those before it; the system is not published.

    `counts` is what the stage had counted: `nightlog approve` goes on from there.
    """

    exit_code = EXIT_GATE

    def __init__(self, message: str, counts: Mapping[str, int] | None = None):
        super().__init__(message)
        self.counts = dict(counts or {})


class TransientError(NightlogError):
    """Something that may work when tried again: a rate limit, a time-out, a busy table."""

    exit_code = EXIT_TRANSIENT


class CommitUnknown(TransientError):
    """A commit failed, and the table's log, which says whether it was made all the same, cannot be read."""


class LockLost(TransientError):
    """Another process has taken over the lock of a system: this one had stopped, or could not reach the store, for too long."""


class LakeFull(TransientError):
    """No space is left where the lake or temporary files are. Tried again: others' files may be gone by then."""


class LakeReadOnly(ConfigError):
    """The lake cannot be written by this user, or its disk is mounted read-only."""


class StoreRefused(ConfigError):
    """The object store of the lake does not know its bucket or its key, or does not let it in."""


class NoInput(NightlogError):
    """The night has no file of a system: an outcome of its own.

    `counts` has n_nights_before, the earlier nights with files, if a file was due; then the exit code is that of a failure.
    """

    def __init__(self, message: str, counts: Mapping[str, int] | None = None):
        super().__init__(message)
        self.counts = dict(counts or {})


def is_transient(error: Exception) -> bool:
    """Return True if an error of a library is worth another try: two writers met, or a worker or the connection to Spark was lost."""
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    # Py4J raises its base class, without a trace of the JVM's, where the JVM has ended in the middle of a call.
    lost_jvm = type(error).__name__ == "Py4JError" and "Trace:" not in text
    met = (
        "ConcurrentAppendException",
        "ConcurrentDeleteReadException",
        "Python worker exited unexpectedly",
        "nightlog.errors.TransientError",
    )
    return lost_jvm or bool(names & {"Py4JNetworkError", "ConnectionError", "CommitFailedError"}) or any(word in text for word in met)


def outcome_of(error: Exception) -> tuple[OutcomeKind, str]:
    """Return the outcome of a system whose stage raised the error, and its detail."""
    kinds = (
        (NoInput, OutcomeKind.NO_INPUT),
        (GateFailed, OutcomeKind.GATED),
        (TransientError, OutcomeKind.TRANSIENT),
        (NightlogError, OutcomeKind.FAILED),
    )
    for kind, outcome in kinds:
        if isinstance(error, kind):
            return outcome, str(error)
    return OutcomeKind.TRANSIENT if is_transient(error) else OutcomeKind.FAILED, first_line(error)


def first_line(error: Exception) -> str:
    """Return an error of a library in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:500]
