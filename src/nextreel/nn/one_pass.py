"""The histories of a user who is asked at many moments, read in one causal pass.

The longest of them is cut into windows of L tokens that overlap by half. A request is read from the first window that
holds the last token of its history, where it has the most behind it: all since the start, or L // 2 + 1 to L tokens. A
history of its own has always the last L. With L = 4:

    tokens      0 1 2 3 4 5 6 7
    window 0    0 1 2 3              requests after tokens 0 to 3
    window 1        2 3 4 5          after 4 and 5
    window 2            4 5 6 7      after 6 and 7

A token tells of one next request (`request_gap`), that of the next event, so all are to be asked when that comes.
"""

from collections.abc import Iterator

import numpy as np
import torch

from nextreel.cases.asked import Cases
from nextreel.cases.store import Store
from nextreel.nn.batch import VIDEO, Batch, Requests, Tokens, packed, tensors
from nextreel.nn.profile import Ledger
from nextreel.nn.vocabulary import Rows

_HISTORIES = 1024  # windows read together, about


def at_next_event(cases: Cases, store: Store) -> np.ndarray:
    """Which cases [n] are asked at the time of the event that follows on their history, as whatever was shown from the
    log itself; the store holds `events/time_ms`."""
    position = store.offsets[cases.user_idx] + cases.history_end
    found = np.zeros(len(cases), bool)
    some = np.flatnonzero(position < store.offsets[cases.user_idx + 1])
    found[some] = store.events("time_ms")[position[some]] == cases.time_ms[some]
    return found


def begins(place: np.ndarray, length: int) -> np.ndarray:
    """Where in a history the window begins from which a request after its token at `place` [m] is read."""
    stride = (length + 1) // 2
    return np.asarray(stride * np.maximum(0, 1 + (place - length) // stride))


def blocks(cases: Cases, store: Store, rows: Rows, length: int) -> Iterator[tuple[np.ndarray, Batch, Requests]]:
    """Positions of some of the cases, the windows that they are read from, and what each asks there; all events are
    tokens. The cases are asked `at_next_event`."""
    order = np.lexsort((cases.history_end, cases.user_idx))
    cases = cases.where(order)
    histories, which = cases.longest(store)
    for block in histories.blocks(_HISTORIES, _HISTORIES * length // 2):
        mine = slice(*np.searchsorted(which, [block.start, block.stop]))
        some, longest = cases.where(mine), histories.where(block)
        tokens = Tokens.of(longest, rows, False, store.events("time_ms")[longest.stop])
        start = tokens.start[which[mine] - block.start]
        at = start + some.history_end  # a start token is before the events
        first, asked, window = np.unique(
            start + begins(some.history_end, length), return_index=True, return_inverse=True
        )
        end = np.minimum(first + length, tokens.stop[which[mine] - block.start][asked])
        _token, batch = packed(tokens.columns, first, end)
        within = at - first[window] + batch.offsets.numpy()[window]
        profile = None
        if rows.profile is not None:
            ledger = Ledger(rows.profile, tokens.columns[VIDEO], tokens.positive)
            profile = torch.from_numpy(ledger.profiles(start[asked], first, end, within))
        columns = tensors(rows.of_requests(tokens.time_ms[at], some.time_ms, some.tab))
        liked = torch.ones(len(some))
        yield order[mine], batch, Requests(torch.from_numpy(within), some.time_ms, columns, profile, liked)
