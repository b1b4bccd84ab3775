"""What a fit knows things by."""

from dataclasses import fields, replace

import numpy as np
import pytest

from nextreel.cases.store import NamedColumns, Sets
from nextreel.nn.inputs import NEVER_MS
from nextreel.nn.profile import PRIOR
from nextreel.nn.vocabulary import FIRST, NOTHING, START, UNKNOWN, Names, Rows, Vocabulary
from tests.neural import EVERY, with_every_column

DAY_MS = 86_400_000
ALL = Names(EVERY["inputs"], EVERY["request"], EVERY["videos"])
NONE = Names([], [], [])


@pytest.fixture
def store(made_store):
    """Videos 2 and 5 three times, 4 twice, 6 once, over 4 days; after train, videos 3 and 8."""
    events = {
        "video_idx": np.array([2, 5, 2, 4, 3, 5, 2, 6, 5, 4, 8], np.int32),
        "time_ms": np.array([0, 1, 2, 3, 4, 0.5, 1, 2, 2.5, 4, 4.5]) * DAY_MS,
        "positive": np.array([1, 0, 1, -1, 1, 1, 0, 1, -1, 0, 1], np.int8),
    }
    events["time_ms"] = events["time_ms"].astype(np.int64)
    cuts = {"start": np.array([0, 0, 5]), "train": np.array([0, 4, 10])}
    return made_store([0, 0, 5, 11], cuts, events, np.arange(9) * 11 + 70, np.arange(3))


def fit_with_counts(store, names=NONE, only_positives=False, **changes):
    return Vocabulary.fit(store.fitted_on("train"), names, only_positives, **changes)


def fit(store, names=NONE, only_positives=False, **changes):
    return fit_with_counts(store, names, only_positives, **changes)[0]


def sets(*rows):
    return Sets(np.array([x for row in rows for x in row], np.int32), np.cumsum([0, *map(len, rows)]))


def values(found):
    return [found.of(np.array([row]))[0].tolist() for row in range(len(found))]


def with_videos(store, **columns):
    return replace(store, tables=store.tables | {"videos": NamedColumns(store.tables["videos"] | columns)})


# --- rows of ids ---


def test_known_videos_have_rows_in_order(store):
    found, counts = fit_with_counts(store)
    assert found.known.tolist() == [2, 4, 5, 6]
    assert counts.events.tolist() == [3, 2, 3, 1]
    assert found.row.tolist() == [START, UNKNOWN, FIRST, UNKNOWN, FIRST + 1, FIRST + 2, FIRST + 3, UNKNOWN, UNKNOWN]
    assert found.index.tolist() == [-1, -1, 0, -1, 1, 2, 3, -1, -1]
    assert found.has_opinion(np.arange(9)).tolist() == [video in (2, 4, 5, 6) for video in range(9)]


def test_of_positives_alone_others_are_not_known(store):
    found, counts = fit_with_counts(store, only_positives=True)
    assert (found.known.tolist(), counts.events.tolist()) == ([2, 5, 6], [2, 1, 1])


def test_rare_videos_share_rows_by_the_hash_of_their_keys(store):
    found = fit(store, own_row_from=3, hashed_rows=2)
    own, shared = found.row[[2, 5]], found.row[[4, 6]]
    assert own.tolist() == [FIRST, FIRST + 1]
    # By hand: the upper half of key x 0x9E3779B97F4A7C15 modulo 2^64, modulo 2.
    expected = [FIRST + 2 + (((key * 0x9E3779B97F4A7C15) % 2**64) >> 32) % 2 for key in (70 + 44, 70 + 66)]
    assert shared.tolist() == expected
    assert found.row[[1, 3, 7, 8]].tolist() == [UNKNOWN] * 4  # what train does not know shares none
    renumbered = with_videos(store, video_key=store.tables["videos"]["video_key"] + 1)
    rows = [fit(world, own_row_from=3, hashed_rows=1_000).row[[4, 6]].tolist() for world in (store, renumbered)]
    assert rows[0] != rows[1]


@pytest.mark.parametrize("keys", [np.array([2**63 + 5] * 9, np.uint64), np.array([-5] * 9)])
def test_any_key_is_hashed(store, keys):
    row = fit(with_videos(store, video_key=keys), own_row_from=9, hashed_rows=7).row
    assert ((row[[2, 4, 5, 6]] >= FIRST) & (row[[2, 4, 5, 6]] < FIRST + 7)).all()


def test_without_shared_rows_rare_videos_have_none_and_no_opinion(store):
    found = fit(store, own_row_from=3)
    assert found.row[[4, 6]].tolist() == [UNKNOWN] * 2
    assert found.known.tolist() == [2, 4, 5, 6]
    assert found.has_opinion(np.array([2, 4, 6])).tolist() == [True, False, False]


def test_hashed_rows_are_spread(made_store):
    n = 4_000
    events = {"video_idx": np.arange(1, n + 1, dtype=np.int32), "time_ms": np.arange(n), "positive": np.ones(n, bool)}
    cuts = {"start": np.array([0, 0]), "train": np.array([0, n])}
    store = made_store([0, 0, n], cuts, events, np.arange(n + 1), np.arange(2))
    per_row = np.bincount(fit(store, own_row_from=2, hashed_rows=100).row[1:] - FIRST, minlength=100)
    assert len(per_row) == 100
    assert per_row.min() > 20
    assert per_row.max() < 70


# --- rows of anything else ---


def test_a_value_has_the_row_after_it_and_what_is_unknown_none():
    """Of buckets, one beyond the last is the last; of any other value, nothing is known beyond."""
    rows = Rows({}, {"gap": 3, "hour": 24, "tab": 2}, None)
    last_ms, time_ms = np.array([NEVER_MS, 0, 0, 0]), np.array([0, 0, 1_000, 60_000])
    found = rows.of_requests(last_ms, time_ms, np.array([-1, 0, 1, 2]))
    assert found["gap"].tolist() == [NOTHING, 1, 1 + 1, 1 + 2]  # log2 of 61 is above 5
    assert found["hour"].tolist() == [1 + 8] * 4  # in UTC+8
    assert found["tab"].tolist() == [NOTHING, 1, 1 + 1, NOTHING]


# --- how often videos are shown and liked ---


def test_rates_by_hand(store):
    """10 events of 9 known videos over 4 days, 2.5 a day."""
    found, counts = fit_with_counts(store)
    time = np.array([0, 1, 2, 3, 0.5, 1, 2, 2.5, 4])
    video = np.array([2, 5, 2, 4, 5, 2, 6, 5, 4])
    order = np.argsort(time, kind="stable")
    for row, known in zip(counts.log_rates, found.known, strict=True):
        first = np.flatnonzero(video[order] == known)[0]
        since = (9 - first) * 4 / 9  # days since its first event, as long as a day's events take
        assert row[0] == pytest.approx(np.log((1 + (video == known).sum()) / (1 + since)))
    overall = (4 + 1) / (7 + 2)  # of the 9 events 7 are judged
    share = [(2 + 20 * overall) / 23, (0 + 20 * overall) / 21, (1 + 20 * overall) / 22, (1 + 20 * overall) / 21]
    assert PRIOR == 20
    np.testing.assert_allclose(counts.log_rates[:, 1], np.log(np.array(share) / overall))


# --- content ---


TAGS = sets([], [9], [3, 7], [3, 8], [7], [], [], [3, 9], [8])


def test_content_is_numbered_by_what_known_videos_have(store):
    """Tags 3 and 7 of them; what else later videos bring is none."""
    found = fit(with_videos(store, tags=TAGS, author=np.array([0, 1, 6, 6, 2, -1, 2, 1, 0], np.int32)),
                Names([], [], ["tags", "author"]))  # fmt: skip
    assert values(found.content["tags"]) == [[], [], [0, 1], [0], [1], [], [], [0], []]
    assert values(found.content["author"]) == [[], [], [1], [1], [0], [], [0], [], []]
    # Video 7 is new and has a known tag; video 8 has neither a known tag nor a known author.
    assert found.has_opinion(np.arange(9)).tolist() == [video in (2, 3, 4, 5, 6, 7) for video in range(9)]
    assert not found.rows.inputs
    assert found.rows.profile is None


def test_tags_of_a_profile_are_no_content(store):
    found = fit(with_videos(store, tags=TAGS), Names([], ["profile"], []))
    assert found.content == {}
    assert found.rows.profile.n_tags == 2
    assert not found.has_opinion(np.array([3, 7])).any()


def numbers(vocabulary, counts):
    """All that is learnt from: content without the videos that are no part of train."""
    profile = vocabulary.rows.profile
    known = vocabulary.known
    content = {name: [found.of(known)[0].tolist(), int(found.values.max(initial=-1))]
               for name, found in vocabulary.content.items()}  # fmt: skip
    flat = {"events": counts.events, "log_rates": counts.log_rates, "rows": vocabulary.row[known],
            "share": profile.share, "rate": profile.rate, "day": vocabulary.uploads.day[:-1],
            "cell": vocabulary.uploads.cell[known]}  # fmt: skip
    return {name: column.tolist() for name, column in flat.items()} | content | {
        "inputs": vocabulary.rows.inputs, "request": vocabulary.rows.request,
    }  # fmt: skip


def test_what_later_events_and_videos_bring_changes_nothing(store):
    """Another tab, other tags, authors, durations and uploads of videos outside train, one of which is shown later."""
    rich = with_every_column(store, np.random.default_rng(0))
    before = fit_with_counts(rich, ALL)
    later = np.array([1, 3, 7, 8])
    events = NamedColumns({name: column.copy() for name, column in rich.tables["events"].items()})
    events["tab"][[4, 10]], events["positive"][[4, 10]] = 3, 0
    videos = dict(rich.tables["videos"])
    for name, value in (("author", 50), ("duration_ms", 9e9), ("upload_day", 9e6)):
        videos[name] = videos[name].copy()
        videos[name][later] = value
    tags = values(videos["tags"])
    for video in later:
        tags[video] = [*tags[video], *range(20, 30)]
    videos["tags"] = sets(*tags)
    after = fit_with_counts(replace(rich, tables=rich.tables | {"events": events, "videos": NamedColumns(videos)}), ALL)
    assert numbers(*before) == numbers(*after)


# --- uploads ---


def test_days_of_upload_are_cells_from_16_days_before_to_16_after(store):
    upload_day = np.array([0, np.nan, -16, -15, -400, 20, 21, 0, 3], float)
    uploads = fit(with_videos(store, upload_day=upload_day), Names([], [], ["age"])).uploads
    assert uploads.day[:-1].tolist() == list(range(-16, 21))  # train is the days 0 to 4
    assert np.isnan(uploads.day[-1])
    assert uploads.cell[1:].tolist() == [37, 0, 1, 0, 36, 36, 16, 19]


def test_cells_lie_around_the_log_however_far_from_1970(store):
    """They once began in 1970, so that a log of 2022 had one cell for all uploads, and ages said nothing."""
    store.tables["events"]["time_ms"] = store.tables["events"]["time_ms"] + 19_090 * DAY_MS
    upload_day = np.array([0, 19_090, 19_091, 19_092, 19_093, 19_094, 19_060, 19_100, 19_089], float)
    uploads = fit(with_videos(store, upload_day=upload_day), Names([], [], ["age"])).uploads
    assert uploads.day[:-1].tolist() == list(range(19_074, 19_111))
    assert uploads.cell[1:].tolist() == [16, 17, 18, 19, 20, 0, 26, 15]


def test_of_a_long_log_a_cell_is_several_days(store):
    store.tables["events"]["time_ms"] = store.tables["events"]["time_ms"] * 50  # 200 days
    upload_day = np.array([0, -16, -13, -12, 0, 200, 216, 500, np.nan])
    uploads = fit(with_videos(store, upload_day=upload_day), Names([], [], ["age"])).uploads
    assert uploads.day[:3].tolist() == [-16, -12, -8]  # 233 days in at most 64 cells
    assert len(uploads.day) == 1 + 59
    assert uploads.cell[1:].tolist() == [0, 0, 1, 4, 54, 58, 58, 59]


def test_without_days_of_upload_all_is_unknown(store):
    uploads = fit(store, Names([], [], ["age"])).uploads
    assert (uploads.cell == len(uploads.day) - 1).all()


# --- kept ---


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("names", [ALL, NONE, Names(["positive"], ["gap"], ["tags"]), Names([], ["profile"], [])])
def test_a_vocabulary_is_kept_whole(store, names, bare, tmp_path):
    """Also of data without anything known of videos."""
    rich = with_every_column(store, np.random.default_rng(0))
    if bare:
        rich = replace(rich, tables=rich.tables | {"videos": store.tables["videos"]})
    found = fit(rich, names, own_row_from=2, hashed_rows=3)
    found.save(tmp_path / "vocabulary")
    loaded = Vocabulary.load(tmp_path / "vocabulary")
    for field in fields(Vocabulary):
        same(getattr(found, field.name), getattr(loaded, field.name))
    assert [*loaded.content] == [*found.content]
    assert [*loaded.rows.inputs] == [*found.rows.inputs]  # in order: weights are drawn by it
    if bare:
        assert loaded.rows.profile is None


def test_what_nobody_reads_after_a_fit_is_not_kept(store, tmp_path):
    fit(store).save(tmp_path / "vocabulary")
    kept = sorted(path.name for path in (tmp_path / "vocabulary").iterdir())
    assert kept == ["about.json", "known.npy", "row.npy"]


def same(one, other):
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif hasattr(one, "__dataclass_fields__"):
        for field in fields(one):
            same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, tuple):
        for mine, theirs in zip(one, other, strict=True):
            same(mine, theirs)
    else:
        assert one == other


def test_how_many_values_train_knows(store):
    rich = with_every_column(store, np.random.default_rng(0))
    rich.tables["events"]["tab"][:] = np.array([0, 1, 0, -1, 3, 2, 0, 0, 0, 0, 3])  # the 3s are after train
    found = fit(rich, Names(["tab", "gap", "positive"], ["tab", "hour"], []))
    assert found.rows.inputs == {"tab": 3, "gap": 32, "positive": 2}
    assert found.rows.request == {"tab": 3, "hour": 24}
