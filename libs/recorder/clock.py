"""The recording's clock: it runs faster than ours, so that three days are recorded in some ten minutes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta


@dataclass(frozen=True)
class Clock:
    """Real seconds since `started` are stretched by `speed` and laid onto the days from `first_day` on.

    The stretch is the same everywhere, so the order of the lines is the order in which they were written.
    """

    first_day: date
    n_days: int
    speed: float
    started: float

    def at(self, real: float) -> datetime:
        """The recorded moment of a real one (seconds since 1970). The last day takes whatever comes late.

        >>> Clock(date(2026, 3, 2), 3, 288.0, started=1000.0).at(1010.0)
        datetime.datetime(2026, 3, 2, 0, 48, tzinfo=datetime.timezone.utc)
        """
        midnight = datetime.combine(self.first_day, datetime.min.time(), tzinfo=UTC)
        latest = midnight + timedelta(days=self.n_days) - timedelta(milliseconds=1)
        return min(midnight + timedelta(seconds=max(0.0, real - self.started) * self.speed), latest)

    def wait_until(self, seconds: float) -> None:
        """Sleep until so many recorded seconds since the first midnight have passed."""
        time.sleep(max(0.0, self.started + seconds / self.speed - time.time()))

    def pause(self, seconds: float) -> None:
        """Sleep for so many recorded seconds."""
        time.sleep(seconds / self.speed)

    @property
    def days(self) -> list[date]:
        """The recorded days."""
        return [self.first_day + timedelta(days=n) for n in range(self.n_days)]
