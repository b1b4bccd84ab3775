import gzip
import tempfile
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextreel import datasets, schema
from nextreel.datasets import kuairand
from nextreel.errors import UserError
from nextreel.raw.intake import REASONS

FIRST_MS = 1_650_812_741_436
NO_DROPS = dict.fromkeys(REASONS, 0)


def events(source, name="interactions"):
    """The rows of a source as (user_id, video_id, time since the first, play time)."""
    tables = source.tables
    rows = tables[name].join(tables["users"], "user_idx").join(tables["videos"], "video_idx")
    found = rows.select("user_id", "video_id", "time_ms", "play_time_ms").to_pyarrow().to_pylist()
    return sorted((row["user_id"], row["video_id"], row["time_ms"] - FIRST_MS, row["play_time_ms"]) for row in found)


def conforms(source):
    with tempfile.TemporaryDirectory() as folder:
        datasets.write_tables(source.intake.con, source, Path(folder) / "tables")
    return source


def rejected(source):
    """The quarantine, sorted: (file, line, column, value, reason)."""
    rows = source.intake.quarantine().order_by("file", "line").to_pyarrow().to_pylist()
    return [tuple(row.values()) for row in rows]


def test_the_first_of_repeated_rows_is_kept_and_other_times_stay(folder):
    at = {"user_id": 7, "video_id": 9, "time_ms": FIRST_MS}
    folder.log(
        {**at, "play_time_ms": 30},
        {**at, "play_time_ms": 10},
        {**at, "play_time_ms": 20, "time_ms": FIRST_MS + 5},
        {**at, "play_time_ms": 40, "video_id": 8},
        {**at, "play_time_ms": 50, "user_id": 6},
        {**at, "play_time_ms": 5},
    )
    source = folder.read()
    assert events(source) == [(6, 9, 0, 50), (7, 8, 0, 40), (7, 9, 0, 30), (7, 9, 5, 20)]
    assert (source.rows_read, source.rejected()) == (6, NO_DROPS | {"repeated": 2})
    assert rejected(source) == [("log_standard_a.csv", line, None, None, "repeated") for line in (3, 7)]


def test_repeats_are_found_across_files_standard_logs_first(folder):
    key = {"time_ms": FIRST_MS}
    folder.log({**key, "play_time_ms": 1, "is_rand": 1}, name="log_random_a.csv")
    folder.log({**key, "play_time_ms": 3}, name="log_standard_b.csv")
    folder.log({**key, "play_time_ms": 2}, name="log_standard_a.csv")
    source = folder.read()
    assert events(source) == [(1, 2, 0, 2)]
    assert events(source, "random") == []
    assert rejected(source) == [
        (name, 2, None, None, "repeated") for name in ("log_random_a.csv", "log_standard_b.csv")
    ]


def test_rows_are_numbered_through_all_files(folder, frame):
    folder.log({}, {"time_ms": "x"}, {}, name="log_standard_a.csv")
    folder.log({"time_ms": FIRST_MS + 50}, name="log_standard_b.csv")
    rows = frame(folder.read().tables["interactions"], "interactions").row
    assert rows.is_monotonic_increasing
    assert rows.is_unique


NUMBERS = ["user_id", "time_ms", "play_time_ms", "is_click", "tab", "is_rand"]
TEXT = [
    *[{column: "abc"} for column in NUMBERS],
    *[{"play_time_ms": value} for value in ("NULL", "true", '"5', "--1")],
]
CELLS = ["1,2,3", ",".join(["1"] * 20)]
FLAGS = ("is_click", "long_view", "is_profile_enter")
MISSING = [{column: ""} for column in ("user_id", "video_id", "time_ms", "is_rand")]
FRACTION = [
    *[{column: "1.5"} for column in ("user_id", "video_id", "time_ms")],
    *[{column: "0.5"} for column in ("is_rand", *FLAGS, "play_time_ms")],
    {"comment_stay_time": "2.5"},
]
OUT_OF_RANGE = [
    *[{column: "-1"} for column in ("user_id", "video_id", "time_ms", "is_rand", *FLAGS, "play_time_ms", "tab")],
    *[{column: "2"} for column in ("is_rand", *FLAGS)],
    *[{"play_time_ms": str(2**31)}, {"duration_ms": "-1"}, {"profile_stay_time": "-1"}, {"tab": "40000"}],
    *[{"time_ms": str(FIRST_MS // 1000)}, {"time_ms": str(FIRST_MS * 1000)}, {"user_id": str(2**53 + 2)}],
    *[{column: value} for column in ("user_id", "time_ms", "is_like") for value in ("nan", "inf", "-inf")],
]
BY_REASON = {
    **{"not_a_number": TEXT, "wrong_cells": CELLS, "missing": MISSING},
    **{"fraction": FRACTION, "out_of_range": OUT_OF_RANGE},
}


@pytest.mark.parametrize("reason", BY_REASON)
def test_what_cannot_be_used_is_set_aside_with_its_line_column_and_value(folder, reason):
    faults = BY_REASON[reason]
    path = folder.log(*(row for fault in faults for row in ({}, fault)), {})
    source = conforms(folder.read())
    assert events(source) == [(1, 2, 2 * i, 10) for i in range(len(faults) + 1)]
    where = [(None, fault) if isinstance(fault, str) else next(iter(fault.items())) for fault in faults]
    assert rejected(source) == [
        (path.name, 3 + 2 * i, column, value or None, reason) for i, (column, value) in enumerate(where)
    ]
    assert source.rejected() == NO_DROPS | {reason: len(faults)}
    assert source.rows_read == 2 * len(faults) + 1


def test_an_empty_cell_is_null_where_the_schema_allows_it(folder, frame):
    empty = ["tab", "play_time_ms", "duration_ms", "is_click", "profile_stay_time"]
    columns = ["tab", "play_time_ms", "duration_ms", "click", "profile_stay_ms"]
    folder.log(*({column: ""} for column in empty))
    source = conforms(folder.read())
    assert source.rejected() == NO_DROPS
    null = frame(source.tables["interactions"], "interactions").isna()
    assert null[columns].to_numpy().tolist() == [[i == j for j in range(5)] for i in range(5)]
    assert null.sum().sum() == 5


def test_reasons_add_up(folder):
    folder.log(
        {}, {"tab": "x"}, {"tab": -1}, {"time_ms": FIRST_MS}, "1,2", {"is_rand": 3}, {}, name="log_standard_a.csv"
    )
    folder.log({"time_ms": FIRST_MS}, {"video_id": ""}, {"is_rand": 1, "user_id": 4}, name="log_random_a.csv")
    source = folder.read()
    counts = dict.fromkeys(REASONS, 0) | {"not_a_number": 1, "wrong_cells": 1, "missing": 1, "out_of_range": 2}
    counts["repeated"] = 2
    assert source.rejected() == counts
    assert [(file, line) for file, line, *_ in rejected(source)] == [
        *[("log_random_a.csv", line) for line in (2, 3)],
        *[("log_standard_a.csv", line) for line in (3, 4, 5, 6, 7)],
    ]
    found = datasets.summary(source, source.tables)
    assert found == {
        **{"rows_read": 10, "rows_kept": 3, **{f"rows_{reason}": n for reason, n in counts.items()}},
        **{f"feature_rows_{reason}": 0 for reason in REASONS},
        **{"rows_standard": 2, "rows_random": 1, "rows_standard_without_duration": 0, "users": 2, "videos": 1},
    }
    assert list(found)[2 : 2 + len(REASONS)] == [f"rows_{reason}" for reason in REASONS]


def test_a_bad_row_does_not_count_as_the_first_of_repeats(folder):
    at = {"time_ms": FIRST_MS}
    folder.log({**at, "play_time_ms": -1}, {**at, "play_time_ms": 5}, {**at, "play_time_ms": 7})
    source = folder.read()
    assert events(source) == [(1, 2, 0, 5)]
    assert source.rejected() == NO_DROPS | {"out_of_range": 1, "repeated": 1}


def test_the_share_rule_stops_with_file_line_column_and_value(folder):
    good = folder.log(*[{}] * 9)
    path = folder.log(*[{}] * 8, {"is_click": 5}, {"tab": -3}, name="log_standard_b.csv")
    source = folder.read()
    datasets.check_rejected(source, 0.2)
    with pytest.raises(UserError) as caught:
        datasets.check_rejected(source, 0.19)
    message = str(caught.value)
    assert f"{path}: 2 of 10 rows (20.00%)\n" in message
    assert "1 out of range in is_click, the first on line 10: 5\n" in message
    assert "1 out of range in tab, the first on line 11: -3\n" in message
    assert "`ingest.max_rejected_share` = 0.19" in message
    assert str(good) not in message


def test_the_share_rule_shows_the_text_that_is_no_number(folder):
    path = folder.log({}, {"play_time_ms": "12s"})
    with pytest.raises(UserError, match="1 not a number in play_time_ms, the first on line 3: 12s") as caught:
        datasets.check_rejected(folder.read(), 0.001)
    assert str(path) in str(caught.value)


def test_the_share_rule_holds_for_features_and_not_for_repeats(folder):
    folder.log({"time_ms": FIRST_MS}, {"time_ms": FIRST_MS})
    datasets.check_rejected(folder.read(), 0)
    path = folder.users({}, {"user_id": ""})
    source = folder.read()
    assert source.rejected(logs=False) == NO_DROPS | {"missing": 1}
    with pytest.raises(UserError, match="1 missing in user_id, the first on line 3\n") as caught:
        datasets.check_rejected(source, 0.4)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("factor", "unit"), [(1 / 1000, "seconds"), (1000, "microseconds")])
def test_times_in_another_unit_are_rejected_with_a_guess(folder, factor, unit):
    folder.log(*({"time_ms": int((FIRST_MS + 1000 * i) * factor)} for i in range(3)))
    source = folder.read()
    assert source.rejected() == NO_DROPS | {"out_of_range": 3}
    found = f"3 out of range in time_ms, the first on line 2: {int(FIRST_MS * factor)}"
    with pytest.raises(UserError) as caught:
        datasets.check_rejected(source, 0.9)
    assert f"{found} ({unit}? milliseconds are expected)" in str(caught.value)


def test_one_reason_and_column_is_told_by_its_first_line(folder):
    folder.log({}, {"tab": -1}, {"tab": "x"}, {"tab": -2})
    found = [(r.column, r.reason, r.n, r.line, r.value) for r in folder.read().intake.rejects()]
    assert found == [("tab", "out_of_range", 2, 3, "-1"), ("tab", "not_a_number", 1, 4, "x")]


def test_a_line_number_counts_the_unreadable_lines_above_it(folder):
    path = folder.log({}, {"tab": "x"}, {"tab": -1})
    assert [row[:3] for row in rejected(folder.read())] == [(path.name, 3, "tab"), (path.name, 4, "tab")]


def test_columns_are_found_by_name(folder, frame):
    row = {"user_id": 3, "video_id": 4, "play_time_ms": 11, "duration_ms": 22, "is_like": 1, "tab": 5}
    path = folder.log(row)
    plain = frame(folder.read().tables["interactions"], "interactions")
    header, line = (text.split(",") for text in path.read_text().splitlines())
    path.write_text(f"{','.join([*header[::-1], 'caption'])}\n{','.join([*line[::-1], 'text'])}\n")
    other = frame(folder.read().tables["interactions"], "interactions")
    pd.testing.assert_frame_equal(plain, other)
    assert other[["play_time_ms", "duration_ms", "like", "tab"]].to_numpy().tolist() == [[11, 22, True, 5]]


def _quoted_header(text):
    header, rest = text.split("\n", 1)
    return ",".join(f'"{name}"' for name in header.split(",")) + "\n" + rest


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + _quoted_header(text).replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
    ],
    ids=["BOM and CRLF", "the same with a quoted header", "no newline at the end"],
)
def test_ways_to_write_a_csv_file_do_not_matter(folder, rewrite):
    for path in (folder.log({}, {"user_id": 5}), folder.users({"user_id": 5}), folder.videos({})):
        path.write_bytes(rewrite(path.read_text()).encode())
    source = folder.read()
    assert source.rejected() == source.rejected(logs=False) == NO_DROPS
    assert events(source) == [(1, 2, 0, 10), (5, 2, 1, 10)]
    users = source.tables["users"].order_by("user_idx").register_days_range.to_pyarrow().to_pylist()
    assert users == [None, "[1,10)"]
    assert source.tables["videos"].tags.to_pyarrow().to_pylist() == [[12, 65]]


def test_integers_may_be_written_as_floats(folder):
    folder.log(
        {"user_id": "87433.0", "video_id": "3e0", "time_ms": f"{FIRST_MS}.0", "play_time_ms": "12.0", "tab": "1.0"}
    )
    assert events(folder.read()) == [(87433, 3, 0, 12)]


@pytest.mark.parametrize(
    ("names", "features"),
    [
        (["log_standard_a.csv"], []),
        (["log_random_a.csv"], []),
        (["log_random_a.csv"], ["users"]),
        (["log_standard_a.csv", "log_standard_b.csv"], ["videos"]),
        (["log_standard_b.csv", "log_random_a.csv"], ["users", "videos"]),
    ],
)
def test_any_non_empty_subset_of_files_is_read(folder, names, features):
    for i, name in enumerate(names):
        folder.log({"user_id": i, "is_rand": int("random" in name)}, name=name)
    for kind in features:
        getattr(folder, kind)({})
    source = folder.read()
    assert source.rows_read == len(names)
    assert source.tables["interactions"].count().execute() == sum("standard" in name for name in names)
    assert source.tables["random"].count().execute() == sum("random" in name for name in names)
    assert source.tables["users"].user_active_degree.count().execute() == ("users" in features)
    assert source.tables["videos"].author_id.count().execute() == ("videos" in features)


def test_rows_exposed_at_random_stand_apart_wherever_they_are(folder):
    folder.log({}, {"is_rand": 1}, {}, name="log_standard_a.csv")
    source = folder.read()
    assert [time for _, _, time, _ in events(source)] == [0, 2]
    assert [time for _, _, time, _ in events(source, "random")] == [1]


def test_an_empty_log_beside_a_full_one_is_no_error(folder):
    folder.log(name="log_standard_a.csv")
    folder.log({}, name="log_standard_b.csv")
    assert folder.read().rows_read == 1


def test_logs_without_rows_are_a_user_error(folder):
    folder.log()
    with pytest.raises(UserError, match="the logs have a header but no rows"):
        folder.read()


def test_index_is_one_plus_the_rank_of_the_raw_id(folder, frame):
    folder.log({"user_id": 900, "video_id": 30_000_000}, {"user_id": 20, "video_id": 5})
    folder.users({"user_id": 100}, {"user_id": 3})
    folder.videos({"video_id": 0})
    source = folder.read()
    users, videos = (frame(source.tables[name], name) for name in ("users", "videos"))
    assert users[["user_idx", "user_id"]].to_numpy().tolist() == [[1, 3], [2, 20], [3, 100], [4, 900]]
    assert videos[["video_idx", "video_id"]].to_numpy().tolist() == [[1, 0], [2, 5], [3, 30_000_000]]
    rows = frame(source.tables["interactions"], "interactions")
    assert rows[["user_idx", "video_idx"]].to_numpy().tolist() == [[2, 2], [4, 3]]


def test_a_duration_of_zero_is_unknown(folder, frame):
    folder.log({"duration_ms": 0}, {"duration_ms": 1})
    folder.videos({"video_duration": 0}, {"video_id": 3, "video_duration": 5}, {"video_id": 4, "video_duration": ""})
    source = folder.read()
    assert datasets.summary(source, source.tables)["rows_standard_without_duration"] == 1
    durations = frame(source.tables["interactions"], "interactions").duration_ms
    assert durations.isna().tolist() == [True, False]
    assert frame(source.tables["videos"], "videos").duration_ms.isna().tolist() == [True, False, True]


def test_video_features(folder, frame):
    folder.log({})
    folder.videos(
        {"tag": '"12,65"'},
        {"video_id": 3, "tag": "39", "music_type": "", "author_id": ""},
        {"video_id": 4, "tag": "", "upload_dt": ""},
    )
    videos = frame(conforms(folder.read()).tables["videos"], "videos")
    assert [None if tags is None else list(tags) for tags in videos.tags] == [[12, 65], [39], None]
    assert videos.music_type.isna().tolist() == [False, True, False]
    assert videos.author_id.isna().tolist() == [False, True, False]
    assert [day if pd.isna(day) else pd.Timestamp(day).date() for day in videos.upload_date[:2]] == [
        date(2022, 4, 10)
    ] * 2
    assert pd.isna(videos.upload_date[2])
    first = videos.iloc[0]
    assert (first.duration_ms, first.width, first.height, first.music_id) == (87_433, 720, 1_280, 9_155_697_141)
    assert (first.video_type, first.upload_type, first.visible_status, first.music_type) == ("NORMAL", "Web", 0, 9)


def test_user_features(folder, frame):
    folder.log({})
    folder.users(
        {"is_live_streamer": -124, "is_video_author": 1, "onehot_feat4": ""},
        {"user_id": 2, "is_live_streamer": 1, "fans_user_num": 5_000, "fans_user_num_range": '"[1k,5k)"'},
    )
    users = frame(conforms(folder.read()).tables["users"], "users")
    assert users.is_live_streamer.tolist() == [None, True]  # -124: the source does not say
    assert users.is_video_author.tolist() == [True, False]
    assert users.fans_user_num.tolist() == [7, 5_000]
    assert users.fans_user_num_range.tolist() == ["[1,10)", "[1k,5k)"]
    assert users.onehot_feat4.isna().tolist() == [True, False]
    assert users.onehot_feat17.tolist() == [17, 17]


def test_a_user_has_the_first_of_repeated_features_or_null(folder, frame):
    folder.log({"user_id": 8})
    folder.users({"fans_user_num": 3}, {"fans_user_num": 4})
    users = frame(folder.read().tables["users"], "users")
    assert users.user_id.tolist() == [1, 8]
    assert users.fans_user_num[0] == 3
    assert users.drop(columns=["user_idx", "user_id"]).isna().all(axis=1).tolist() == [False, True]


@pytest.mark.parametrize(("kind", "column"), [("users", "onehot_feat17"), ("videos", "server_width")])
def test_a_feature_too_large_for_its_column_is_a_bad_row(folder, kind, column):
    folder.log({})
    path = getattr(folder, kind)({}, {f"{kind[:-1]}_id": 3, column: 3_000_000_000})
    source = conforms(folder.read())
    source.tables[kind].to_pyarrow()
    assert rejected(source) == [(path.name, 3, column, "3000000000", "out_of_range")]


def test_a_negative_duration_of_a_video_is_a_bad_row(folder):
    folder.log({})
    path = folder.videos({}, {"video_id": 3, "video_duration": -5})
    assert rejected(folder.read()) == [(path.name, 3, "video_duration", "-5", "out_of_range")]


def test_every_table_of_a_simulated_folder_conforms(tiny_world, frame, con, ingest):
    source = conforms(kuairand.read(con, ingest(tiny_world)))
    assert set(source.tables) == set(schema.TABLES) - {"searches"}
    assert source.rejected() == NO_DROPS | {"repeated": source.rejected()["repeated"]}
    assert source.rejected(logs=False) == NO_DROPS
    rows = {name: frame(source.tables[name], name) for name in ("interactions", "random", "truth_events")}
    keys = ["user_idx", "time_ms"]
    logged = pd.concat([rows["interactions"], rows["random"]])[keys]
    assert len(logged.merge(rows["truth_events"][keys].drop_duplicates())) == len(logged)
    truth = frame(source.tables["truth_videos"], "truth_videos").set_index("video_idx").true_duration_ms
    known = rows["interactions"].dropna(subset="duration_ms")
    assert (truth[known.video_idx].to_numpy() == known.duration_ms.to_numpy()).all()


def test_the_real_slice(slice_source, real_data, frame):
    conforms(slice_source)
    assert datasets.summary(slice_source, slice_source.tables) == {
        **{"rows_read": 228_329, "rows_kept": 222_444, **{f"rows_{reason}": 0 for reason in REASONS}},
        **{f"feature_rows_{reason}": 0 for reason in REASONS},
        **{"rows_repeated": 5_885, "rows_standard": 222_444, "rows_random": 0},
        **{"rows_standard_without_duration": 3_568, "users": 27_285, "videos": 7_583},
    }
    (path,) = (real_data / "kuairand-pure-slice" / "data").glob("log_*.csv")
    raw = pd.read_csv(path)
    kept = raw.drop_duplicates(["user_id", "video_id", "time_ms"], keep="first")
    table = slice_source.tables["interactions"]
    sums = table.aggregate(play=table.play_time_ms.sum(), tab=table.tab.sum(), click=table.click.sum()).to_pandas()
    # Seven groups of repeats differ in play time: the sum tells which one was kept.
    assert sums.iloc[0].tolist() == [kept.play_time_ms.sum(), kept.tab.sum(), kept.is_click.sum()]
    videos = frame(slice_source.tables["videos"], "videos")
    assert (videos.duration_ms.isna().sum(), videos.tags.isna().sum(), videos.music_type.isna().sum()) == (239, 96, 203)
    users = frame(slice_source.tables["users"], "users")
    assert (users.onehot_feat4.isna().sum(), users.onehot_feat17.isna().sum()) == (874, 714)
    assert users.user_active_degree.nunique() == 9


def test_the_real_head_joins_two_logs(real_data, con, ingest):
    source = conforms(kuairand.read(con, ingest(real_data / "kuairand-pure-head" / "data")))
    assert source.rows_read == 2_000
    assert source.rejected() == NO_DROPS | {"repeated": 26}
    assert source.tables["interactions"].count().execute() == 1_974


def test_the_real_random_rows(real_data, con, ingest):
    source = conforms(kuairand.read(con, ingest(real_data / "kuairand-1k-random" / "data")))
    counts = datasets.summary(source, source.tables)
    assert (source.rows_read, source.rejected()) == (143, NO_DROPS)
    assert (counts["rows_random"], counts["rows_standard"], counts["users"], counts["videos"]) == (143, 0, 6, 142)


_GOOD = st.fixed_dictionaries(
    {
        "user_id": st.integers(0, 3),
        "video_id": st.integers(0, 3),
        "time_ms": st.integers(FIRST_MS, FIRST_MS + 2),
        "play_time_ms": st.integers(0, 9),
        "is_rand": st.integers(0, 1),
    }
)
_FAULTS = st.one_of(
    st.just((None, {})),
    st.just((None, {})),
    *(st.tuples(st.just(reason), st.sampled_from(faults)) for reason, faults in BY_REASON.items()),
)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(logs=st.lists(st.lists(st.tuples(_GOOD, _FAULTS), max_size=40), min_size=1, max_size=2))
def test_rows_read_are_kept_or_counted(new_folder, logs):
    folder = new_folder()
    first, found = {}, []
    for i, rows in enumerate(logs):
        lines = [fault if isinstance(fault, str) else {**row, **fault} for row, (_, fault) in rows]
        path = folder.log(*lines, name=f"log_standard_{i}.csv")
        for line, (row, (reason, _fault)) in enumerate(rows, 2):
            key = (row["user_id"], row["video_id"], row["time_ms"] - FIRST_MS)
            if reason is None:
                reason = "repeated" if key in first else None
                first.setdefault(key, row)
            if reason is not None:
                found.append((path.name, line, reason))
    n_rows = sum(len(rows) for rows in logs)
    if not n_rows:
        with pytest.raises(UserError, match="no rows"):
            folder.read()
        return
    source = folder.read()
    for is_rand, name in enumerate(["interactions", "random"]):
        kept = [(*key, row["play_time_ms"]) for key, row in first.items() if row["is_rand"] == is_rand]
        assert events(source, name) == sorted(kept)
    assert [(file, line, reason) for file, line, _, _, reason in rejected(source)] == found
    assert source.rows_read == n_rows == len(first) + sum(source.rejected().values())


def test_a_log_cut_into_parts_is_one_log_in_their_order(folder, frame):
    """As 27K is published."""
    name = "log_standard_4_08_to_4_21_27k_part{}.csv"
    at = {"time_ms": FIRST_MS}
    folder.log({**at, "play_time_ms": 3}, {**at, "video_id": 5}, name=name.format(2))
    folder.log({**at, "play_time_ms": 1}, name=name.format(1))
    for part in (1, 2, 3):
        folder.log({}, name=f"video_features_statistic_27k_part{part}.csv", columns=["user_id"])  # never read
    source = folder.read()
    assert events(source) == [(1, 2, 0, 1), (1, 5, 0, 10)]
    assert [path.name for path in source.logs] == [name.format(1), name.format(2)]
    assert frame(source.tables["interactions"], "interactions").row.tolist() == [1, 3]
    assert source.rejected()["repeated"] == 1


# --- files ---


def test_nothing_of_a_folders_name_is_data(new_folder):
    folder = new_folder()
    folder.path = folder.path / "duration_ms=7" / "user_id=3 [a]*"
    folder.path.mkdir(parents=True)
    folder.log({"user_id": 5, "duration_ms": 20}, {"user_id": 6, "duration_ms": 30})
    folder.users({"user_id": 5})
    rows = folder.read().tables["interactions"].order_by("row").to_pyarrow()
    assert rows["duration_ms"].to_pylist() == [20, 30]
    assert len(events(folder.read())) == 2


def test_logs_in_capitals_or_packed_are_logs(folder):
    folder.log({"video_id": 1}, name="log_standard_a.csv")
    folder.log({"video_id": 2}, name="LOG_STANDARD_B.CSV")
    path = folder.log({"video_id": 3, "is_rand": 1}, name="log_random_c.csv")
    (folder.path / "log_random_c.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert [video for _user, video, *_ in events(folder.read())] == [1, 2]
    assert [video for _user, video, *_ in events(folder.read(), "random")] == [3]


@pytest.mark.parametrize(
    "name",
    ["log_standard_b.parquet", "log_standard_b.csv.zip", "log_b.csv", "sub/log_standard_b.csv", "video_features.csv"],
)
def test_a_file_that_would_not_be_read_stops_the_run(folder, name):
    folder.log({})
    (folder.path / name).parent.mkdir(exist_ok=True)
    (folder.path / name).write_text("x\n")
    with pytest.raises(UserError, match=f"{name} would not be read: KuaiRand's files are called log_standard_"):
        folder.read()


def test_files_that_say_something_about_the_data_may_lie_beside_it(folder):
    folder.log({})
    for name in ("README.md", "LICENSE", "video_features_statistic_pure.csv", ".DS_Store", "load_data.py"):
        (folder.path / name).write_text("x\n")
    assert len(events(folder.read())) == 1
