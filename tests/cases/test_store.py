"""Columns by name, on disk and linked; histories as stretches of them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from nextreel.cases import store as stores
from nextreel.cases.store import Column, Histories, NamedColumns, Sets, Store, link
from nextreel.errors import UserError

OFFSETS = np.array([0, 0, 4, 4, 7])  # users 1 and 3 have events
CUTS = {
    "start": np.array([0, 1, 4, 4]),
    "early": np.array([0, 2, 4, 5]),
    "train": np.array([0, 3, 4, 6]),
    "train_valid": np.array([0, 3, 4, 7]),
}


@pytest.fixture
def store():
    """Seven events of three users, four videos with tags."""
    tables = {
        "events": NamedColumns(
            video_idx=np.array([1, 2, 3, 4, 1, 1, 2], np.int32),
            positive=np.array([True, False, True, True, False, True, True]),
            time_ms=np.arange(7) * 10,
            tab=np.array([0, 1, 1, -1, 0, 0, 1], np.int16),
        ),
        "videos": NamedColumns(
            video_key=np.array([0, 11, 12, 13, 14]),
            tags=Sets(np.array([2, 0, 1, 2], np.int32), np.array([0, 0, 1, 1, 3, 4])),
        ),
        "users": NamedColumns(user_key=np.array([0, 101, 102, 103])),
    }
    about = {
        "events/video_idx": Column("id", 5),
        "events/positive": Column("id", 2),
        "events/time_ms": Column("number"),
        "events/tab": Column("id", 2),
        "videos/video_key": Column("number"),
        "videos/tags": Column("set", 3),
        "users/user_key": Column("number"),
    }
    return Store(OFFSETS, CUTS, tables, about)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- columns ---


def test_columns_are_found_by_name(store):
    assert (store.n_users, store.n_videos) == (3, 4)
    assert store.events("video_idx").tolist() == [1, 2, 3, 4, 1, 1, 2]
    assert store.users("user_key")[3] == 103
    assert store.video_sets("tags").of(np.array([3]))[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda s: s.events("hour"), "hour"),
        (lambda s: s.users("age"), "age"),
        (lambda s: s.video_sets("songs"), "songs"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(store, ask, name):
    with pytest.raises(KeyError, match=f"no column '{name}'.*`columns` must name it"):
        ask(store)


def test_a_store_survives_the_disk(store, tmp_path):
    store.save(tmp_path / "store")
    loaded = Store.load(tmp_path / "store")
    assert loaded.columns == store.columns
    assert loaded.offsets.tolist() == OFFSETS.tolist()
    assert {cut: end.tolist() for cut, end in loaded.cuts.items()} == {cut: end.tolist() for cut, end in CUTS.items()}
    for name in store.columns:
        table, column = name.split("/")
        one, other = store.tables[table][column], loaded.tables[table][column]
        pairs = [(one.values, other.values), (one.offsets, other.offsets)] if isinstance(one, Sets) else [(one, other)]
        for before, after in pairs:
            assert isinstance(after, np.memmap)
            assert before.dtype == after.dtype
            assert before.tolist() == after.tolist()
    loaded.save(tmp_path / "again")
    assert files(tmp_path / "again") == files(tmp_path / "store")


def test_saving_again_leaves_nothing_of_the_first(store, tmp_path):
    store.save(tmp_path / "store")
    fewer = {name: about for name, about in store.columns.items() if name != "events/tab"}
    replace(store, columns=fewer).save(tmp_path / "store")
    assert not (tmp_path / "store/events/tab.npy").exists()


# --- what a model is handed ---


def test_a_model_is_handed_the_columns_that_it_names_and_no_others(store, tmp_path):
    store.save(tmp_path / "store")
    link(tmp_path / "store", tmp_path / "inputs/toy", ["events/positive", "videos/tags"], ["train", "train_valid"])
    assert set(files(tmp_path / "inputs/toy")) == {
        "columns.json", "offsets.npy", "cuts/start.npy", "cuts/train.npy", "cuts/train_valid.npy",
        "events/video_idx.npy", "events/positive.npy", "videos/tags.npy", "videos/tags.offsets.npy",
    }  # fmt: skip
    linked = Store.load(tmp_path / "inputs/toy")
    assert {table: set(columns) for table, columns in linked.tables.items()} == {
        "events": {"video_idx", "positive"},
        "videos": {"tags"},
        "users": set(),
    }
    assert linked.columns == {name: store.columns[name] for name in linked.columns}
    assert linked.events("positive").tolist() == store.events("positive").tolist()
    assert linked.fitted_on("train").length.tolist() == store.fitted_on("train").length.tolist()
    assert (linked.n_users, linked.n_videos) == (3, 4)
    with pytest.raises(KeyError, match="no column 'time_ms', only"):
        linked.events("time_ms")
    with pytest.raises(KeyError, match="no column 'user_key'"):
        linked.users("user_key")


def test_a_model_that_names_nothing_still_knows_what_was_watched(store, tmp_path):
    store.save(tmp_path / "store")
    link(tmp_path / "store", tmp_path / "toy", [], ["train", "train_valid"])
    assert Store.load(tmp_path / "toy").columns == {"events/video_idx": Column("id", 5)}


def test_a_column_that_the_data_lack_is_an_error_with_its_name(store, tmp_path):
    store.save(tmp_path / "store")
    with pytest.raises(UserError, match=r"toy reads events/hour, users/age; the data have .*events/tab") as caught:
        link(
            tmp_path / "store",
            tmp_path / "toy",
            ["users/age", "events/positive", "events/hour"],
            ["train", "train_valid"],
        )
    assert "positive" not in str(caught.value).split(";")[0]
    assert not (tmp_path / "toy").exists()


def test_a_new_column_changes_no_byte_for_a_model_that_does_not_name_it(store, tmp_path):
    """Else every model would be fitted anew."""
    more = replace(
        store,
        tables=store.tables | {"events": NamedColumns(store.tables["events"] | {"hour": np.arange(7)})},
        columns={"events/hour": Column("id", 24)} | store.columns,
    )
    names = ["videos/tags", "events/positive"]
    for name, each in (("old", store), ("new", more)):
        each.save(tmp_path / name / "store")
        link(tmp_path / name / "store", tmp_path / name / "toy", names, ["train", "train_valid"])
        names.reverse()  # nor does the order in which a model names its own
    assert files(tmp_path / "old/store") != files(tmp_path / "new/store")
    assert files(tmp_path / "old/toy") == files(tmp_path / "new/toy")
    assert json.loads((tmp_path / "new/toy/columns.json").read_text())["videos/tags"] == {"kind": "set", "size": 3}


def test_linking_takes_no_space_where_it_can_and_copies_where_it_cannot(store, tmp_path, monkeypatch):
    store.save(tmp_path / "store")
    link(tmp_path / "store", tmp_path / "linked", ["events/positive"], ["train", "train_valid"])
    one, other = (folder / "events/positive.npy" for folder in (tmp_path / "store", tmp_path / "linked"))
    assert one.samefile(other)

    def no_links(*_names):
        raise OSError

    monkeypatch.setattr(stores.os, "link", no_links)
    link(tmp_path / "store", tmp_path / "copied", ["events/positive"], ["train", "train_valid"])
    assert not one.samefile(tmp_path / "copied/events/positive.npy")
    assert files(tmp_path / "copied") == files(tmp_path / "linked")
    shutil.rmtree(tmp_path / "store")
    assert Store.load(tmp_path / "linked").events("positive").tolist() == store.events("positive").tolist()


def test_only_a_column_that_is_marked_may_be_lacking(store, tmp_path):
    store.save(tmp_path / "store")
    link(
        tmp_path / "store",
        tmp_path / "toy",
        ["events/positive", "videos/songs?", "videos/tags?"],
        ["train", "train_valid"],
    )
    assert set(Store.load(tmp_path / "toy").columns) == {"events/video_idx", "events/positive", "videos/tags"}
    with pytest.raises(UserError, match="more reads videos/songs; the data have"):
        link(tmp_path / "store", tmp_path / "more", ["videos/songs", "videos/tags?"], ["train", "train_valid"])


# --- sets ---


def test_every_video_is_in_a_group(store):
    """Those without an id share one that is none of the ids; so do all where there is no such column."""
    groups, n = store.video_groups("tags")
    assert n == 4
    found = [groups.of(np.array([video]))[0].tolist() for video in range(5)]
    assert found == [[3], [2], [3], [0, 1], [2]]
    store.tables["videos"]["author"] = np.array([0, 5, -1, 0, 5])
    store.columns["videos/author"] = Column("id", 6)
    groups, n = store.video_groups("author")
    assert (groups.values.tolist(), n) == ([0, 5, 6, 0, 5], 7)
    assert groups.offsets.tolist() == [0, 1, 2, 3, 4, 5]
    groups, n = store.video_groups("songs")
    assert (groups.values.tolist(), groups.offsets.tolist(), n) == ([0] * 5, [0, 1, 2, 3, 4, 5], 1)


def test_sets_of_some_rows_by_hand(store):
    tags = store.video_sets("tags")
    assert len(tags) == 5  # with the padding
    values, owner = tags.of(np.array([3, 0, 1, 3, 2, 4]))
    assert values.tolist() == [0, 1, 2, 0, 1, 2]
    assert owner.tolist() == [0, 0, 2, 3, 3, 5]


def test_sets_of_no_rows(store):
    for rows in ([], [0, 2]):
        values, owner = store.video_sets("tags").of(np.array(rows, int))
        assert (len(values), len(owner)) == (0, 0)


def test_sets_are_like_a_list_of_lists():
    rng = np.random.default_rng(0)
    lists = [sorted(rng.choice(50, rng.integers(0, 5), replace=False).tolist()) for _ in range(200)]
    sets = Sets(np.concatenate(lists).astype(np.int32), np.concatenate([[0], np.cumsum([len(each) for each in lists])]))
    rows = rng.integers(0, 200, 1_000)
    values, owner = sets.of(rows)
    assert values.tolist() == [value for row in rows for value in lists[row]]
    assert owner.tolist() == [at for at, row in enumerate(rows) for _ in lists[row]]


# --- histories ---


def test_a_fit_reads_from_the_start_to_its_cut(store):
    """The first event of user 1 lies before train."""
    for cut, expected in (("early", [1, 4]), ("train", [1, 2, 4, 5])):
        position, owner = store.fitted_on(cut).flat()
        assert position.tolist() == expected
        assert set(owner) == {1, 3}


def test_a_history_has_the_first_events_of_its_user(store):
    histories = store.until(np.array([3, 1, 1]), np.array([2, 0, 3]))
    assert histories.length.tolist() == [2, 0, 3]
    assert [column.tolist() for column in histories.flat()] == [[4, 5, 0, 1, 2], [0, 0, 2, 2, 2]]
    assert [column.tolist() for column in histories.positives()] == [[5, 0, 2], [0, 2, 2]]
    assert histories.where(np.array([2, 0])).length.tolist() == [3, 2]
    assert histories.where(slice(1, None)).length.tolist() == [0, 3]
    assert histories.where(histories.length > 0).length.tolist() == [2, 3]


@pytest.mark.parametrize("n_events", [1, 3, 10, 10**9])
def test_blocks_hold_every_history_once_and_few_events(store, n_events):
    rng = np.random.default_rng(n_events)
    length = rng.integers(0, 6, 100) * (rng.random(100) < 0.7)
    length[[20, 99]] = 50  # longer than a block
    histories = Histories(store, np.full(100, 7), 7 + length)
    blocks = list(histories.blocks(1_000, n_events))
    covered = [row for block in blocks for row in range(*block.indices(100))]
    assert covered == list(range(100))
    for block in blocks:
        together = int(length[block].sum())
        assert together <= n_events or block.stop - block.start == 1
    # As few as possible: the next history would have been too much.
    assert all(length[block.start : block.stop + 1].sum() > n_events for block in blocks[:-1])


def test_blocks_of_nothing(store):
    assert list(store.until(np.zeros(0, int), np.zeros(0, int)).blocks(3, 5)) == []
    empty = store.until(np.full(9, 2), np.zeros(9, int))
    assert list(empty.blocks(4, 5)) == [slice(0, 4), slice(4, 8), slice(8, 9)]
