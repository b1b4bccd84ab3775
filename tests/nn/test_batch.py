import numpy as np
import pytest

from nextreel.cases.store import Events
from nextreel.nn.batch import LIKED, PASSED, START, UNKNOWN, Tokens

# User 1: videos 1 2 3 4, the 2nd passed over; the 3rd and 4th share a time. User 2: none. User 3: video 9, unknown.
EVENTS = Events(
    np.array([0, 0, 4, 4, 5]),
    np.array([0, 0, 4, 4]),
    np.array([0, 4, 4, 5]),
    np.array([0, 4, 4, 5]),
    np.array([1, 2, 3, 4, 9], np.int32),
    np.array([10, 20, 30, 30, 10]),
    np.array([True, False, True, True, True]),
)
ROW_OF = np.array([0, 2, 3, 4, 5, 0, 0, 0, 0, 0], np.int32)  # video_idx -> token row; 9 is unknown


def tokens(only_positives, passed_weight=0.0):
    return Tokens.of(EVENTS.train().part(slice(1, None)), ROW_OF, only_positives, passed_weight)


def test_tokens_of_all_events():
    made = tokens(only_positives=False)
    assert made.video.tolist() == [START, 2, 3, 4, 5, START, START, UNKNOWN]
    assert made.reaction.tolist() == [0, LIKED, PASSED, LIKED, LIKED, 0, 0, LIKED]
    # Passed over, at the time of the one before, or unknown: no target.
    assert made.weight.tolist() == [0, 1, 0, 1, 0, 0, 0, 0]
    assert (made.start.tolist(), made.stop.tolist()) == ([0, 5, 6], [5, 6, 8])


def test_tokens_of_positives_alone():
    made = tokens(only_positives=True)
    assert made.video.tolist() == [START, 2, 4, 5, START, START, UNKNOWN]
    assert made.weight.tolist() == [0, 1, 1, 0, 0, 0, 0]


def test_what_was_passed_over_may_be_a_lighter_target():
    made = tokens(only_positives=False, passed_weight=0.25)
    assert made.weight.tolist() == [0, 1, 0.25, 1, 0, 0, 0, 0]  # still none: at the time of the one before, unknown
    (batch,) = made.epoch(10, 4, np.random.default_rng(0))
    assert batch.target.tolist() == [[2, 3, 4, UNKNOWN]]
    assert batch.weight.tolist() == [[1, 0.25, 1, 0]]


def test_a_batch_predicts_each_target_from_the_tokens_before_it():
    (batch,) = tokens(only_positives=False).epoch(10, 4, np.random.default_rng(0))
    assert batch.video.tolist() == [[START, 2, 3, 4]]
    assert batch.target.tolist() == [[2, UNKNOWN, 4, UNKNOWN]]


def test_the_last_tokens_end_with_the_last_event():
    batch, last = tokens(only_positives=False).last(3)
    assert last.tolist() == [2, 0, 1]
    assert batch.video.tolist() == [[3, 4, 5], [START, UNKNOWN, UNKNOWN], [START, UNKNOWN, UNKNOWN]]


@pytest.mark.parametrize("length", [1, 3, 7, 50])
def test_an_epoch_holds_every_target_once(length):
    rng = np.random.default_rng(length)
    sizes = rng.integers(0, 40, 30)
    offsets = np.concatenate([[0, 0], sizes.cumsum()])
    n = int(sizes.sum())
    video = np.arange(1, n + 1, dtype=np.int32)  # every event its own video
    events = Events(offsets, offsets[:-1], offsets[1:], offsets[1:], video, np.arange(n), rng.random(n) < 0.4)
    made = Tokens.of(events.train(), np.arange(1, n + 2, dtype=np.int32), only_positives=False)
    for _ in range(3):
        targets = np.concatenate([b.target[b.target != UNKNOWN] for b in made.epoch(length, 4, rng)])
        assert sorted(targets) == sorted(made.video[made.weight > 0])


def test_no_padding_is_looked_at():
    """The state at a history's end does not depend on what else is in the batch."""
    import torch

    from nextreel.models import sasrec

    settings = sasrec.Params(
        lr=0.1, weight_decay=0, epochs=1, batch_size=1, patience=0, width=8, length=4, dropout=0.5, seeds=1,
        history="all",
        passed_weight=0, loss="bce", negatives=1, blocks=2, heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    network = sasrec.Network(6, settings).eval()
    together, last = tokens(only_positives=False).last(4)
    alone, alone_last = Tokens.of(EVENTS.train().part(slice(3, 4)), ROW_OF, False).last(4)
    with torch.no_grad():
        assert torch.allclose(network(together)[2, last[2]], network(alone)[0, alone_last[0]], atol=1e-6)
