"""Days in UTC+8, where the app's users live, and unix milliseconds."""

from datetime import date

import numpy as np

DAY_MS = 86_400_000
UTC8_MS = 8 * 3_600_000


def start_of_day_ms(day: date) -> int:
    """Midnight as unix milliseconds."""
    return (day - date(1970, 1, 1)).days * DAY_MS - UTC8_MS


def day_of(time_ms: int) -> date:
    """The day of a time."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + (time_ms + UTC8_MS) // DAY_MS)


def days_of(time_ms: np.ndarray) -> np.ndarray:
    """The day of each time: datetime64[D]."""
    return ((time_ms + UTC8_MS) // DAY_MS).astype("datetime64[D]")
