"""Logs of one's own: any column names, CSV or Parquet, with or without watch times."""

import errno
import gzip
import hashlib
import os
import re
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextreel import checking, datasets, labels, schema, splits
from nextreel.cases import write
from nextreel.datasets import table
from nextreel.errors import UserError
from nextreel.params import Params
from nextreel.raw import filebytes

FIRST_MS = 1_650_812_741_436


@pytest.fixture
def log(tmp_path, ingest, committed, connect):
    """A log of one's own in a folder, `ingest.table` with some changes."""

    class Log:
        path = tmp_path / "log"

        def csv(self, text, name="a.csv"):
            self.path.mkdir(exist_ok=True)
            (self.path / name).write_text(text, encoding="utf-8")
            return self.path / name

        def parquet(self, columns, name="a.parquet"):
            self.path.mkdir(exist_ok=True)
            pq.write_table(pa.table(columns), self.path / name)
            return self.path / name

        def params(self, path=None, **names):
            section = committed["ingest"]["table"] | names
            return ingest(path or self.path, layout="table", table=section, max_rejected_share=0.2)

        def read(self, path=None, **names):
            return table.read(connect(), self.params(path, **names))

    return Log()


def rows(source, *columns, name="interactions"):
    """Columns of the rows in file order, ids as they were."""
    tables = source.tables
    joined = tables[name].join(tables["users"], "user_idx").join(tables["videos"], "video_idx").order_by("row")
    return [tuple(row.values()) for row in joined.select(columns).to_pyarrow().to_pylist()]


def rejected(source):
    found = source.intake.quarantine().order_by("file", "line").to_pyarrow().to_pylist()
    return [tuple(row.values()) for row in found]


def test_user_video_and_time_are_enough(log):
    log.csv(f"user_id,video_id,time_ms\n7,9,{FIRST_MS}\n5,9,{FIRST_MS + 1}\n")
    source = log.read()
    assert rows(source, "user_id", "video_id", "time_ms") == [(7, 9, FIRST_MS), (5, 9, FIRST_MS + 1)]
    found = source.tables["interactions"].to_pyarrow()
    assert found.schema.names == list(schema.INTERACTIONS)
    known = {"user_idx", "video_idx", "time_ms", "row"}
    assert {c for c in found.schema.names if found[c].null_count == 0} == known
    assert all(found[c].null_count == 2 for c in set(found.schema.names) - known)
    assert source.tables["random"].count().execute() == 0


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_may_be_called_as_the_reader_calls_its_own(log, kind):
    ours = {"user_id": "row", "video_id": "value", "time": "Fault", "click": "file_row_number", "tab": "file_index"}
    columns = {
        "row": [3, 3],
        "value": [4, -1],
        "Fault": [FIRST_MS] * 2,
        "file_row_number": [1, 0],
        "file_index": [7, 8],
    }
    columns |= {"file": [0, 0], "filename": [0, 0], "bad": [0, 0], "video_idx": [0, 0], "reason": [0, 0]}
    if kind == "csv":
        lines = [columns, *zip(*columns.values(), strict=True)]
        log.csv("".join(",".join(map(str, line)) + "\n" for line in lines))
    else:
        log.parquet(columns)
    source = log.read(**ours)
    assert rows(source, "user_id", "video_id", "time_ms", "click", "tab") == [(3, 4, FIRST_MS, True, 7)]
    line = 3 if kind == "csv" else 2
    assert rejected(source) == [(f"a.{kind}", line, "value", "-1", "out_of_range")]


def test_columns_may_have_any_name_and_order(log):
    log.csv(
        'when,"the ""user""",x,item,rnd,tap,watched,length,scene\n'
        f"{FIRST_MS},3,text,4,1,1,10,20,2\n{FIRST_MS},3,,5,0,0,11,,\n"
    )
    names = {"user_id": 'the "user"', "video_id": "item", "time": "when", "is_rand": "rnd", "click": "tap"}
    source = log.read(**names, play_time="watched", duration="length", tab="scene")
    columns = ("video_id", "click", "play_time_ms", "duration_ms", "tab", "like")
    tables = source.tables
    assert rows(source, "user_id", "video_id", "click", "play_time_ms", "tab") == [(3, 5, False, 11, None)]
    random = tables["random"].join(tables["videos"].select("video_idx", "video_id"), "video_idx").select(columns)
    assert random.to_pyarrow().to_pylist() == [dict(zip(columns, (4, True, 10, 20, 2, None), strict=True))]


def test_csv_and_parquet_give_the_same_tables(log, tmp_path, connect):
    columns = {"user_id": [3, 1, 3], "video_id": [2**62, 5, 7], "time_ms": [FIRST_MS + i for i in range(3)]}
    columns |= {"play": [5.0, None, 7.0], "click": [True, False, None]}
    texts = [["" if x is None else str(int(x)) for x in column] for column in columns.values()]
    as_text = [",".join(row) for row in zip(*texts, strict=True)]
    csv = log.csv("\n".join([",".join(columns), *as_text]) + "\n")
    parquet = log.parquet(columns)
    found = []
    for path in (csv, parquet):
        source = table.read(connect(), log.params(path, play_time="play", click="click"))
        datasets.write_tables(source.intake.con, source, tmp_path / path.suffix[1:])
        found.append({file.name: file.read_bytes() for file in (tmp_path / path.suffix[1:]).iterdir()})
        assert source.rows_read == 3
    assert found[0] == found[1]
    assert rows(source, "video_id", "click", "play_time_ms") == [(2**62, True, 5), (5, False, None), (7, None, 7)]


def test_parts_of_a_folder_are_one_log_in_order_of_name(log):
    header = "user_id,video_id,time_ms\n"
    log.csv(f"{header}1,30,{FIRST_MS}\n1,31,{FIRST_MS}\n1,10,{FIRST_MS}\n", "part2.csv")
    log.csv(f"time_ms,video_id,user_id\n{FIRST_MS},10,1\n{FIRST_MS},x,1\n{FIRST_MS},11,1\n", "part1.csv")
    log.csv(header, "part3.csv")
    log.parquet({"user_id": [1, 1], "video_id": [40, 11], "time_ms": [FIRST_MS] * 2}, "part4.parquet")
    source = log.read()
    assert [video for (video,) in rows(source, "video_id")] == [10, 11, 30, 31, 40]
    assert (source.rows_read, source.rejected()["repeated"]) == (8, 2)
    assert rejected(source) == [
        ("part1.csv", 3, "video_id", "x", "not_a_number"),
        ("part2.csv", 4, None, None, "repeated"),
        ("part4.parquet", 2, None, None, "repeated"),
    ]


@pytest.mark.parametrize(
    ("unit", "cell", "ms"),
    [
        ("ms", "1650812741436", FIRST_MS),
        ("s", "1650812741", 1_650_812_741_000),
        ("s", "1650812741.436", FIRST_MS),
        ("datetime", "2022-04-24", 1_650_758_400_000),
        ("datetime", "2022-04-24 15:05:41.436", FIRST_MS),
        ("datetime", "2022-04-24T15:05:41.436Z", FIRST_MS),
        ("datetime", "2022-04-24T23:05:41.436+08:00", FIRST_MS),
    ],
)
def test_times_in_seconds_or_as_text(log, unit, cell, ms):
    log.csv(f"user_id,video_id,t\n1,2,{cell}\n1,3,{cell}\n")
    assert rows(log.read(time="t", time_unit=unit), "time_ms") == [(ms,), (ms,)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Shanghai"])
def test_times_of_parquet(log, unit, zone):
    """A moment is the same in any zone; without one it is UTC."""
    moment = datetime(2022, 4, 24, 15, 5, 41, tzinfo=UTC)
    column = pa.array([moment.replace(tzinfo=None) if zone is None else moment], pa.timestamp(unit, zone))
    path = log.parquet({"user_id": [1], "video_id": [2], "t": column})
    assert rows(log.read(path, time="t", time_unit="datetime"), "time_ms") == [(1_650_812_741_000,)]


def test_watch_times_in_seconds(log):
    log.csv(f"user_id,video_id,time_ms,w,d\n1,2,{FIRST_MS},1.5,10\n1,3,{FIRST_MS},0,0\n1,4,{FIRST_MS},-1,5\n")
    source = log.read(play_time="w", duration="d", watch_unit="s")
    assert rows(source, "video_id", "play_time_ms", "duration_ms") == [(2, 1_500, 10_000), (3, 0, None)]
    assert rejected(source) == [("a.csv", 4, "w", "-1", "out_of_range")]


def test_a_text_with_commas_in_a_column_that_is_not_read(log):
    log.csv(
        f'title,user_id,video_id,time_ms\n"hello, world",1,2,{FIRST_MS}\n'
        f'"a ""quote""",1,3,{FIRST_MS}\nplain,1,4,{FIRST_MS}\n'
    )
    source = log.read()
    assert [video for (video,) in rows(source, "video_id")] == [2, 3, 4]
    assert rejected(source) == []


def test_an_id_that_is_text_is_no_number(log):
    log.csv(f"user_id,video_id,time_ms\nalice,2,{FIRST_MS}\n1,2,{FIRST_MS}\n")
    source = log.read()
    assert rejected(source) == [("a.csv", 2, "user_id", "alice", "not_a_number")]
    with pytest.raises(UserError, match="1 not a number in user_id, the first on line 2: alice"):
        datasets.check_rejected(source, 0.2)


@pytest.mark.parametrize(("unit", "cell"), [("datetime", "1899-12-31"), ("s", "1650812741436"), ("ms", "1650812741")])
def test_times_out_of_range_are_told_in_a_sentence(log, unit, cell):
    log.csv(f"user_id,video_id,time_ms\n1,2,{cell}\n")
    source = log.read(time_unit=unit)
    with pytest.raises(UserError, match=f"1 out of range in time_ms, the first on line 2: {cell}"):
        datasets.check_rejected(source, 0.2)


def test_a_column_cannot_be_two_things(log):
    path = log.csv(f"user_id,video_id,time_ms\n1,2,{FIRST_MS}\n")
    with pytest.raises(UserError, match="`ingest.table` gives user_id to more than one of its keys"):
        table.inspect(log.params(path, video_id="user_id"))


def test_a_missing_column_is_named_with_its_file(log):
    path = log.csv(f"user,video_id,time_ms\n1,2,{FIRST_MS}\n")
    with pytest.raises(UserError, match="a.csv: columns missing: user_id; the header has: user, video_id, time_ms"):
        table.inspect(log.params())
    table.inspect(log.params(path, user_id="user"))


@pytest.mark.parametrize("name", ["absent", "log.tar.gz", "empty", "log.txt"])
def test_a_path_that_is_no_log_is_a_user_error(log, tmp_path, name):
    if name == "empty":
        (tmp_path / name).mkdir()
    elif name != "absent":
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(
        UserError, match="takes a file that ends in .csv, .csv.gz, .parquet, .parq, .pq, or a folder"
    ) as caught:
        table.inspect(log.params(tmp_path / name))
    assert name in str(caught.value)


def test_a_log_without_rows_is_a_user_error(log):
    log.csv("user_id,video_id,time_ms\n")
    with pytest.raises(UserError, match="there are columns but no rows"):
        log.read()


def test_a_parquet_file_that_was_cut_is_a_user_error(log):
    path = log.parquet({"user_id": [1], "video_id": [2], "time_ms": [FIRST_MS]})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="a.parquet cannot be read as Parquet, perhaps it is cut short"):
        table.inspect(log.params())


def test_a_moment_is_no_number_of_milliseconds(log):
    log.parquet({"user_id": [1], "video_id": [2], "time_ms": pa.array([FIRST_MS], pa.timestamp("ms"))})
    assert rejected(log.read()) == [("a.parquet", 1, "time_ms", "2022-04-24 15:05:41.436", "wrong_type")]


def test_the_manifest_names_each_file_by_its_bytes(log):
    texts = {
        "1.csv": f"user_id,video_id,time_ms\n1,2,{FIRST_MS}\n",
        "2.csv": f"user_id,video_id,time_ms\n1,2,{FIRST_MS}\n1,x,3",
    }
    for name, text in texts.items():
        log.csv(text, name)
    assert datasets.manifest(log.read()) == {
        **{"licence": "its owner's", "citation": "none given"},
        **{
            name: {
                "bytes": len(text),
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
                "rows": text.count("\n") - 1 + (name == "2.csv"),
            }
            for name, text in texts.items()
        },
    }


# --- from the log to its labels ---


def labelled(log, committed, tmp_path, positive="wtg", **names):
    """The labelled rows of a log, the settings used, all through written tables."""
    source = log.read(**names)
    tables = datasets.write_tables(source.intake.con, source, tmp_path / "tables")
    parts = splits.temporal(
        tables["interactions"],
        tables["random"],
        splits.bounds(tables["interactions"], splits.Params(**committed["split"])),
    )
    settings = labels.usable(parts, labels.Params(**committed["label"] | {"positive": positive}))
    found = labels.label(parts, write.fit(parts, settings, leave_one_out=False), settings)
    return found.order_by("row").to_pandas(), settings


def many(n=40, extra=lambda i: ""):
    return "".join(f"{i % 4},{i % 7},{FIRST_MS + 1_000 * i}{extra(i)}\n" for i in range(n))


@pytest.mark.parametrize("positive", ["wtg", "wtr", "wtg_quantile", "long_view", "click"])
def test_without_watch_times_every_row_is_positive(log, committed, tmp_path, positive):
    log.csv("user_id,video_id,time_ms\n" + many())
    found, settings = labelled(log, committed, tmp_path, positive)
    assert settings.positive == "all"
    assert found.positive.tolist() == [True] * 40
    assert found[["wtr", "wtg"]].isna().to_numpy().all()


def test_without_watch_times_a_logged_reaction_is_still_the_label(log, committed, tmp_path):
    log.csv("user_id,video_id,time_ms,tap\n" + many(extra=lambda i: f",{i % 3 == 0:d}"))
    found, settings = labelled(log, committed, tmp_path, "click", click="tap")
    assert settings.positive == "click"
    assert found.positive.tolist() == [i % 3 == 0 for i in range(40)]


def test_with_watch_times_the_rule_is_kept(log, committed, tmp_path):
    log.csv("user_id,video_id,time_ms,w,d\n" + many(extra=lambda i: f",{i % 10},10"))
    found, settings = labelled(log, committed, tmp_path, "wtr", play_time="w", duration="d", watch_unit="s")
    assert settings.positive == "wtr"
    assert found.wtr.tolist() == pytest.approx([i % 10 / 10 for i in range(40)])
    assert found.positive.tolist() == [i % 10 / 10 > committed["label"]["wtr_threshold"] for i in range(40)]


@pytest.mark.parametrize("positive", ["long_view", "click"])
def test_a_reaction_that_the_log_does_not_hold_is_a_user_error(log, committed, tmp_path, positive):
    log.csv("user_id,video_id,time_ms,w,d\n" + many(extra=lambda i: f",{i},10"))
    message = f"`label.positive` is '{positive}', which the log does not say; allowed with its watch times: wtr, wtg"
    with pytest.raises(UserError, match=message):
        labelled(log, committed, tmp_path, positive, play_time="w", duration="d")


# --- the check of params.yaml ---


def checked(committed, path, split=None, **names):
    raw = committed | {"ingest": committed["ingest"] | {"layout": "table", "path": str(path)}}
    raw["ingest"]["table"] = committed["ingest"]["table"] | names
    raw["split"] = committed["split"] | (split or {})
    checking.check(Params(raw), path.parent / "scratch")


def test_the_check_knows_own_logs(log, committed):
    path = log.csv("user_id,video_id,when\n1,2,2022-04-20 12:00:00\n1,2,2022-04-30 23:00:00\n1,2,never\n")
    checked(committed, path, time="when", time_unit="datetime")
    checked(committed, path, {"by": "date"}, time="when", time_unit="datetime")
    with pytest.raises(UserError, match="allowed are the days of the log, 2022-04-20 to 2022-05-01"):
        checked(committed, path, {"by": "date", "test_until": "2022-05-02"}, time="when", time_unit="datetime")
    with pytest.raises(UserError, match="columns missing: time_ms"):
        checked(committed, path)
    with pytest.raises(UserError, match="`ingest.table.time_unit` is 'hours'"):
        checked(committed, path, time_unit="hours")


def test_the_range_of_a_parquet_log(log, con):
    times = pa.array(np.array([FIRST_MS, 5, FIRST_MS + 9]), pa.int64())
    path = log.parquet({"user_id": [1, 1, 1], "video_id": [2, 3, 4], "time_ms": times})
    assert table.time_range(con, log.params(path)) == (FIRST_MS, FIRST_MS + 9)
    seconds = log.params(
        log.parquet({"user_id": [1], "video_id": [2], "t": [FIRST_MS / 1_000]}), time="t", time_unit="s"
    )
    assert table.time_range(con, seconds) == (FIRST_MS, FIRST_MS)


def test_a_text_with_line_breaks_in_a_column_that_is_not_read(log):
    log.csv(
        f'title,user_id,video_id,time_ms\n"one\ntwo\n",1,2,{FIRST_MS}\n"x",1,-3,{FIRST_MS}\n"a\nb",1,4,{FIRST_MS}\n'
        f"z,1,y,{FIRST_MS}\n"
    )
    source = log.read()
    assert [video for (video,) in rows(source, "video_id")] == [2, 4]
    assert rejected(source) == [
        ("a.csv", 5, "video_id", "-3", "out_of_range"),
        ("a.csv", 8, "video_id", "y", "not_a_number"),
    ]
    assert source.rows_read == 4


def test_flags_may_be_words(log):
    cells = ["True", "false", "1", "0.0", "", "2", "maybe", "0.5"]
    log.csv("user_id,video_id,time_ms,liked\n" + "".join(f"1,{i},{FIRST_MS},{x}\n" for i, x in enumerate(cells, 1)))
    source = log.read(like="liked")
    assert rows(source, "like") == [(True,), (False,), (True,), (False,), (None,)]
    assert [(line, value, reason) for _file, line, _column, value, reason in rejected(source)] == [
        *[(7, "2", "out_of_range"), (8, "maybe", "not_a_number"), (9, "0.5", "fraction")]
    ]


def test_flags_of_parquet_may_be_booleans(log):
    columns = {"user_id": [1, 1, 1], "video_id": [2, 3, 4], "time_ms": [FIRST_MS] * 3, "liked": [True, None, False]}
    log.parquet(columns)
    assert rows(log.read(like="liked"), "like") == [(True,), (None,), (False,)]


def test_the_range_of_a_log_with_commas_in_texts(log, con):
    path = log.csv(f'title,user_id,video_id,time_ms\n"a, b, c",1,2,{FIRST_MS}\n"x, ""y""",1,3,{FIRST_MS + 5}\n')
    assert table.time_range(con, log.params(path)) == (FIRST_MS, FIRST_MS + 5)


# --- names of files and folders ---

ODD = [
    "user_id=5",
    "like=1/time_ms=7",
    "a[b]c",
    "x*y?",
    'it\'s "so"',
    "\u0442\u0435\u0441\u0442 \u6d4b\u8bd5",
    "{a,b}",
    "~x",
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_nothing_of_a_path_is_data_or_a_pattern(log, odd, kind, con):
    log.path = log.path / odd
    log.path.mkdir(parents=True)
    columns = {"user_id": [1, 1], "video_id": [2, 3], "time_ms": [FIRST_MS, FIRST_MS + 1], "like": [0, 1]}
    if kind == "csv":
        log.csv(f"user_id,video_id,time_ms,like\n1,2,{FIRST_MS},0\n1,3,{FIRST_MS + 1},1\n", "user_id=8 [1].csv")
        log.csv(f"user_id,video_id,time_ms,like\n9,9,{FIRST_MS},0\n", "user_id=8 1.csv")
    else:
        log.parquet(columns, "user_id=8 [1].parquet")
        log.parquet({name: [column[0] + 7] for name, column in columns.items()} | {"like": [0]}, "user_id=8 1.parquet")
    params = log.params(log.path / f"user_id=8 [1].{kind}", like="like")
    source = table.read(con, params)
    assert rows(source, "user_id", "video_id", "like") == [(1, 2, False), (1, 3, True)]
    assert table.time_range(con, params) == (FIRST_MS, FIRST_MS + 1)
    assert [file.name for file in source.intake.files] == [f"user_id=8 [1].{kind}"]


def test_a_backslash_in_a_path(log, con):
    text = f"user_id,video_id,time_ms\n1,2,{FIRST_MS}\n"
    assert rows(log.read(log.csv(text, "a\\b.csv")), "video_id") == [(2,)]
    (log.path / "a\\b.csv").unlink()
    log.csv(text, "a\\b[1].csv")
    with pytest.raises(UserError, match="a backslash beside one of"):
        log.read()


def test_a_column_that_stands_in_a_folders_name_alone_is_told(log):
    log.path = log.path / "user_id=5"
    log.path.mkdir(parents=True)
    log.csv(f"video_id,time_ms\n2,{FIRST_MS}\n")
    with pytest.raises(UserError, match="a folder is called user_id=5: what stands in names of folders is not read"):
        table.inspect(log.params())


def test_every_file_of_a_folder_is_read_whatever_its_ending_and_depth(log):
    text = f"user_id,video_id,time_ms\n1,{{}},{FIRST_MS}\n"
    columns = {"user_id": [1], "time_ms": [FIRST_MS]}
    log.csv(text.format(10), "a.csv")
    log.csv(text.format(11), "b.CSV")
    for name, video in (("c.csv.gz", 12), ("C2.Csv.Gz", 13)):
        (log.path / name).write_bytes(gzip.compress(text.format(video).encode() + b"1,x,3\n"))
    for name, video in (("d.pq", 14), ("e.parq", 15), ("f.PARQUET", 16)):
        log.parquet(columns | {"video_id": [video]}, name)
    (log.path / "sub/deep").mkdir(parents=True)
    log.csv(text.format(17) + "1,y,3\n", "sub/a.csv")
    log.csv(text.format(18), "sub/deep/a.csv")
    elsewhere = log.path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "g.csv").write_text(text.format(19))
    (log.path / "link").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(log.path)
    for name in (".hidden.csv", "README.txt", "LICENSE", "notes.md", "_SUCCESS", "sub/.part.crc"):
        (log.path / name).write_text("no data")
    source = log.read()
    assert sorted(video for (video,) in rows(source, "video_id")) == list(range(10, 20))
    names = ["C2.Csv.Gz", "a.csv", "b.CSV", "c.csv.gz", "d.pq", "e.parq", "f.PARQUET"]
    assert [file.name for file in source.intake.files] == [*names, "link/g.csv", "sub/a.csv", "sub/deep/a.csv"]
    assert [(file, line) for file, line, *_ in rejected(source)] == [
        ("C2.Csv.Gz", 3),
        ("c.csv.gz", 3),
        ("sub/a.csv", 3),
    ]
    digest = hashlib.sha256((log.path / "c.csv.gz").read_bytes()).hexdigest()
    assert datasets.manifest(source)["c.csv.gz"]["sha256"] == digest


@pytest.mark.parametrize(
    "name", ["b.tsv", "b.csv.bz2", "b.xlsx", "part-00000", "b.json", "sub/b.csv.bak", "b.txt", "_b.dat"]
)
def test_a_file_that_would_not_be_read_stops_the_run(log, name):
    log.csv(f"user_id,video_id,time_ms\n1,2,{FIRST_MS}\n")
    (log.path / name).parent.mkdir(exist_ok=True)
    (log.path / name).write_text("1\t2\n")
    with pytest.raises(UserError, match=f"{re.escape(name)} would not be read: .*move what is no part of the data out"):
        table.inspect(log.params())


def test_a_packed_log_that_was_cut_is_a_user_error(log):
    text = "user_id,video_id,time_ms\n" + "".join(f"{i},{i % 7},{FIRST_MS + i}\n" for i in range(20_000))
    path = log.csv("", "a.csv.gz")
    path.write_bytes(gzip.compress(text.encode())[:-9_000])
    with pytest.raises(UserError, match="a.csv.gz cannot be unpacked, perhaps it is cut short"):
        log.read()
    path.write_bytes(text.encode())
    with pytest.raises(UserError, match="a.csv.gz cannot be unpacked"):
        log.read()


# --- shapes of CSV ---


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(log, encoding):
    path = log.csv("")
    path.write_bytes(f"user_id,video_id,time_ms\n1,2,{FIRST_MS}\n".encode(encoding))
    with pytest.raises(UserError, match=r"a.csv is no UTF-8 text \(UTF-16\?\); save it as UTF-8"):
        table.inspect(log.params())


@pytest.mark.parametrize(
    ("header", "end"),
    [
        ("user_id,video_id,time_ms,,", ",,"),
        ("user_id,video_id,time_ms", ","),
        ("user_id,video_id,time_ms", ",,"),
        ("user_id,video_id,time_ms,x,x,X,x_1", ",5,6,7,8"),
        ("user_id,video_id,time_ms,Video_Id", ",a"),
    ],
)
def test_cells_that_nobody_reads_are_no_fault_whatever_they_are_called(log, header, end):
    log.csv(f"{header}\n1,2,{FIRST_MS}{end}\n1,3,{FIRST_MS}{end}\n")
    assert [video for (video,) in rows(log.read(), "video_id")] == [2, 3]


def test_a_column_is_the_one_of_that_name_though_others_are_called_alike(log):
    log.csv(f"x,x,x_1,user_id,time_ms,X\n1,2,3,4,{FIRST_MS},5\n6,7,q,8,{FIRST_MS},9\n")
    source = log.read(video_id="x_1")
    assert rows(source, "user_id", "video_id") == [(4, 3)]
    assert rejected(source) == [("a.csv", 3, "x_1", "q", "not_a_number")]
    both = log.read(video_id="x_1", tab="X")
    assert rows(both, "video_id", "tab") == [(3, 5)]
    (log.path / "a.csv").unlink()
    table_ = pa.Table.from_arrays([pa.array([i]) for i in (1, 2, 3, FIRST_MS)], ["v", "V", "user_id", "time_ms"])
    pq.write_table(table_, log.path / "a.parquet")
    assert rows(log.read(video_id="V", tab="v"), "video_id", "tab") == [(2, 1)]


def test_a_row_with_more_cells_than_its_header_is_still_set_aside(log):
    log.csv(f"user_id,video_id,time_ms\n1,2,{FIRST_MS}\n1,3,{FIRST_MS},\n1,4,{FIRST_MS},x\n1,5,{FIRST_MS},,\n")
    assert [(line, reason) for _, line, _, _, reason in rejected(log.read())] == [(4, "wrong_cells")]


@pytest.mark.parametrize(("mark", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_mark_between_cells_is_told(log, mark, word):
    log.csv(mark.join(["user_id", "video_id", "time_ms"]) + "\n")
    with pytest.raises(UserError, match=f"is it written with {word}"):
        table.inspect(log.params())


def test_a_quote_escaped_by_a_backslash_is_named_with_its_line(log):
    good = [f'"fine",{i},2,{FIRST_MS}\n' for i in range(5)]
    log.csv("title,user_id,video_id,time_ms\n" + "".join(good[:3]) + f'"a \\"b\\", c",1,4,{FIRST_MS}\n')
    source = log.read()
    assert [(line, reason) for _, line, _, _, reason in rejected(source)] == [(5, "wrong_cells")]
    with pytest.raises(UserError, match=r'a quote within quotes is written twice in a CSV file, "", and not \\"'):
        datasets.check_rejected(source, 0)
    log.csv("title,user_id,video_id,time_ms\n" + "".join([*good[:3], f'"a \\" b",1,4,{FIRST_MS}\n', *good[3:]]))
    with pytest.raises(UserError) as caught:
        datasets.check_rejected(log.read(), 0)
    assert "is written twice in a CSV file" in str(caught.value)


def test_a_text_that_the_end_of_the_file_cuts_is_told(log):
    log.csv(f'user_id,video_id,time_ms,title\n1,2,{FIRST_MS},"a"\n1,2,{FIRST_MS},"b, c')
    with pytest.raises(UserError, match="the last text opens a quote and does not close it; is the file cut short"):
        log.read()


def test_a_file_that_grows_while_it_is_read_is_called_that(log, monkeypatch):
    path = log.csv("user_id,video_id,time_ms\n" + many())
    digest = filebytes.digest

    def slow(path):
        found = digest(path)
        with path.open("a") as file:
            file.write(f"1,2,{FIRST_MS}\n")
        return found

    monkeypatch.setattr(filebytes, "digest", slow)
    with pytest.raises(UserError, match=f"{path} changed while it was read .* wait until it is whole"):
        log.read()


# --- words for a missing value ---


def test_words_for_a_missing_value(log):
    cells = ["NULL", "\\N", "NA", "None", "", '"NA"', "5"]
    text = "user_id,video_id,time_ms,w,liked\n"
    text += "".join(f"1,{i},{FIRST_MS},{cell},{cell.replace('5', '1')}\n" for i, cell in enumerate(cells, 1))
    log.csv(text + f"NA,8,{FIRST_MS},1,1\n")
    source = log.read(play_time="w", like="liked", null=["NULL", "\\N", "NA", "None"])
    assert rows(source, "video_id", "play_time_ms", "like") == [*((i, None, None) for i in range(1, 7)), (7, 5, True)]
    assert rejected(source) == [("a.csv", 9, "user_id", None, "missing")]
    with pytest.raises(UserError, match=r"\(a word for a missing value\? Name it in `ingest.table.null`: \['NULL'\]\)"):
        datasets.check_rejected(log.read(play_time="w"), 0)


def test_words_for_a_missing_value_in_parquet(log):
    columns = {"user_id": [1] * 4, "video_id": [1, 2, 3, 4], "time_ms": [FIRST_MS] * 4, "w": ["5", "NA", "", None]}
    log.parquet(columns)
    assert rows(log.read(play_time="w", null=["NA"]), "play_time_ms") == [(5,), (None,), (None,), (None,)]


def test_nulls_of_yaml_are_words_too(ingest):
    """Unquoted, `NULL` and `null` are one and the same nothing to YAML."""
    names = ingest("x").table.model_dump() | {"null": [None, "NA"]}
    assert datasets.Names(**names).null_words == ["null", "NULL", "Null", "NA"]


# --- ids that are text ---

IDS = [
    "b5c1",
    "00012",
    "12",
    "\u00e9t\u00e9",
    "Z",
    "a",
    "12 ",
    "\U0001f600",
    "\uffff",
    "0x1F",
    "NaN",
    "1e3",
    'q"q',
    "a,b",
]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "large"])
def test_ids_may_be_text(log, kind):
    if kind in ("parquet", "large"):
        users = pa.array(IDS, pa.large_string() if kind == "large" else pa.string())
        log.parquet({"user_id": users, "video_id": [7] * len(IDS), "time_ms": [FIRST_MS] * len(IDS)})
    else:
        quoted = [id_.replace('"', '""') for id_ in IDS]
        text = "user_id,video_id,time_ms\n" + "".join(f'"{id_}",7,{FIRST_MS}\n' for id_ in quoted)
        data = text.encode() if kind == "csv" else gzip.compress(text.encode())
        log.csv("", f"a.{kind}").write_bytes(data)
    source = log.read(user_id_type="text")
    assert rows(source, "user_id", "video_id") == [(id_, 7) for id_ in IDS]
    found = source.tables["users"].order_by("user_idx").to_pyarrow()["user_id"].to_pylist()
    assert found == sorted(IDS, key=lambda id_: id_.encode())
    assert rejected(source) == []


def test_a_text_id_may_not_be_empty_and_repeats_are_found(log):
    log.csv(
        f'user_id,video_id,time_ms\na,x,{FIRST_MS}\n,x,{FIRST_MS}\na,x,{FIRST_MS}\n"",x,{FIRST_MS}\nA,x,{FIRST_MS}\n'
    )
    source = log.read(user_id_type="text", video_id_type="text")
    assert rows(source, "user_id", "video_id") == [("a", "x"), ("A", "x")]
    assert [(line, reason) for _, line, _, _, reason in rejected(source)] == [
        (3, "missing"),
        (4, "repeated"),
        (5, "missing"),
    ]


def test_text_ids_are_hinted_at(log):
    log.csv(f"user_id,video_id,time_ms\nalice,2,{FIRST_MS}\n")
    with pytest.raises(UserError, match="ids that are text: `ingest.table.user_id_type` text"):
        datasets.check_rejected(log.read(), 0.2)


# --- what lies in a folder ---


@pytest.mark.parametrize("what", ["broken link", "link to itself", "pipe", "a name that is no UTF-8"])
def test_what_is_no_file_is_told(log, what):
    log.csv(f"user_id,video_id,time_ms\n1,2,{FIRST_MS}\n")
    odd = log.path / "b.csv"
    if what == "pipe":
        os.mkfifo(odd)
    elif what.startswith("a name"):
        (log.path / os.fsdecode(b"\xff.csv")).write_text("x")
    else:
        odd.symlink_to(odd if what == "link to itself" else log.path / "nothing")
    message = "a link that leads to nothing|no plain file|the name is no UTF-8"
    with pytest.raises(UserError, match=message):
        table.inspect(log.params())


def test_a_folder_that_may_not_be_looked_into_stops_the_run(log, monkeypatch):
    log.csv(f"user_id,video_id,time_ms\n1,2,{FIRST_MS}\n")
    (log.path / "closed").mkdir()
    iterdir = type(log.path).iterdir

    def refused(path):
        if path.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(type(log.path), "iterdir", refused)
    with pytest.raises(PermissionError):
        table.inspect(log.params())


def test_a_file_that_looks_like_data_is_read_whatever_it_is_called(log):
    for at, name in enumerate(["notice.csv", "README.csv", "citation.2022.csv", "license.csv"]):
        log.csv(f"user_id,video_id,time_ms\n1,{at},{FIRST_MS}\n", name)
    assert sorted(video for (video,) in rows(log.read(), "video_id")) == [0, 1, 2, 3]


def test_what_is_there_twice_is_read_once(log):
    text = f"user_id,video_id,time_ms\n1,{{}},{FIRST_MS}\n"
    (log.path / "x/sub").mkdir(parents=True)
    log.csv(text.format(1), "x/sub/a.csv")
    (log.path / "a_link").symlink_to(log.path / "x/sub")
    (log.path / "z.csv").symlink_to(log.path / "x/sub/a.csv")
    source = log.read()
    assert [file.name for file in source.intake.files] == ["a_link/a.csv"]
    assert rejected(source) == []


def test_an_empty_folder_is_told(log):
    log.path.mkdir()
    (log.path / ".hidden.csv").touch()
    with pytest.raises(UserError, match="there is no file in it"):
        table.inspect(log.params())


def test_a_file_that_is_replaced_or_deleted_while_it_is_read_is_told(log, monkeypatch):
    path = log.csv("user_id,video_id,time_ms\n" + many())
    text, digest = path.read_text(), filebytes.digest

    def replaced(path):
        found, before = digest(path), path.stat()
        path.with_name("new").write_text(text)
        path.with_name("new").rename(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return found

    def deleted(path):
        found = digest(path)
        path.unlink()
        return found

    for change in (replaced, deleted):
        monkeypatch.setattr(filebytes, "digest", change)
        with pytest.raises(UserError, match="changed while it was read"):
            log.read()


def test_a_packed_log_with_something_behind_it_is_told(log):
    path = log.csv("", "a.csv.gz")
    path.write_bytes(gzip.compress(f"user_id,video_id,time_ms\n1,2,{FIRST_MS}\n".encode()) + b"\0" * 10)
    with pytest.raises(UserError, match="a.csv.gz cannot be read, perhaps for damage or for what follows"):
        log.read()


@pytest.mark.parametrize("word", ['"', "a,b", "a'b", "[", "\\N", "-1", "\u00e9", " "])
def test_any_word_may_stand_for_a_missing_value(log, word):
    cells = pd.DataFrame({"user_id": 1, "video_id": [1, 2], "time_ms": FIRST_MS, "w": ["5", word]})
    log.path.mkdir()
    for name in ("a.csv", "b.parquet"):
        cells.to_csv(log.path / name, index=False) if name == "a.csv" else cells.to_parquet(log.path / name)
        source = log.read(log.path / name, play_time="w", null=[word])
        assert rows(source, "play_time_ms") == [(5,), (None,)]


def test_a_header_with_a_line_break_in_a_name(log):
    log.csv(f'user_id,"the\nvideo",video_id,time_ms\n1,x,2,{FIRST_MS}\n1,x,y,{FIRST_MS}\n')
    source = log.read()
    assert rows(source, "video_id") == [(2,)]
    assert rejected(source) == [("a.csv", 4, "video_id", "y", "not_a_number")]


def test_a_name_that_differs_in_capitals_or_blanks_is_told(log):
    log.csv(f"User_ID,video_id, time_ms\n1,2,{FIRST_MS}\n")
    with pytest.raises(UserError, match="columns missing: user_id, time_ms; .*did you mean 'User_ID'"):
        table.inspect(log.params())
