"""Days in UTC+8, where the app's users live, and unix milliseconds."""

from datetime import date

import numpy as np

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
UTC8_MS = 8 * HOUR_MS


def start_of_day_ms(day: date) -> int:
    """Midnight as unix milliseconds."""
    return (day - date(1970, 1, 1)).days * DAY_MS - UTC8_MS


def day_of(time_ms: int) -> date:
    """The day of a time."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + (time_ms + UTC8_MS) // DAY_MS)


def days_of(time_ms: np.ndarray) -> np.ndarray:
    """The day of each time: datetime64[D]."""
    return ((time_ms + UTC8_MS) // DAY_MS).astype("datetime64[D]")
