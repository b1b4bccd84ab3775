"""Whatever is wrong with the input or the machine: a clear error or a counted quarantine, and never half a table."""

import errno
import sys

import duckdb
import ibis
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from nextreel import arrays, datasets, engine, schema
from nextreel.datasets import kuairand
from nextreel.errors import UserError

FIRST_MS = 1_650_812_741_436


@pytest.fixture
def ingested(root, folder, committed, tmp_path, monkeypatch):
    """Run the stage `ingest` on the folder, in a project of its own; what it left under data/ and metrics/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pipeline/ingest.py"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("nextreel.runtime.limit_threads", lambda threads: None)  # too late for this process
    script = (root / "pipeline/ingest.py").read_text(encoding="utf-8")

    def run(path=None, **changes):
        section = committed["ingest"] | {"path": str(path or folder.path)} | changes
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(committed | {"ingest": section}))
        exec(compile(script, str(root / "pipeline/ingest.py"), "exec"), {"__file__": str(root / "pipeline/ingest.py")})

    run.left = lambda: sorted(
        str(path.relative_to(tmp_path)) for name in ("data", "metrics") for path in (tmp_path / name).rglob("*")
    )
    return run


TABLES = sorted(f"data/tables/{name}.parquet" for name in schema.TABLES)


def test_a_good_run_leaves_tables_quarantine_and_metrics(folder, ingested):
    folder.log({}, {"tab": "x"})
    ingested(max_rejected_share=0.5)
    metrics = ["metrics/ingest.json", "metrics/manifest.json"]
    assert ingested.left() == ["data/quarantine.parquet", "data/tables", *TABLES, *metrics]
    (bad,) = pq.read_table("data/quarantine.parquet").to_pylist()
    assert list(bad.values()) == ["log_standard_a.csv", 3, "tab", "x", "not_a_number"]


def test_too_many_bad_rows_leave_the_quarantine_and_no_table(folder, ingested):
    folder.log(*({"time_ms": FIRST_MS // 1000 + i} for i in range(5)))
    with pytest.raises(SystemExit, match=r"\(seconds\? milliseconds are expected\)"):
        ingested()
    assert ingested.left() == ["data/quarantine.parquet"]
    assert pq.read_table("data/quarantine.parquet")["line"].to_pylist() == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["KuaiRand-Pure.tar.gz", "x.zip", "x.tgz"])
def test_an_archive_is_told_apart(ingested, tmp_path, name):
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(SystemExit, match=f"{name}', which is an archive: unpack it first"):
        ingested(tmp_path / name)
    assert ingested.left() == []


def test_the_same_rows_in_two_files_are_counted_as_repeated(folder, ingested):
    rows = [{"video_id": i} for i in range(6)]
    folder.log(*rows[:4], name="log_standard_a.csv")
    folder.log(*({"time_ms": FIRST_MS + i, **row} for i, row in enumerate(rows)), name="log_standard_b.csv")
    ingested()
    bad = pq.read_table("data/quarantine.parquet").to_pylist()
    assert [(row["file"], row["line"], row["reason"]) for row in bad] == [
        ("log_standard_b.csv", line, "repeated") for line in (2, 3, 4, 5)
    ]
    assert pq.read_table("data/tables/interactions.parquet").num_rows == 6


@pytest.mark.parametrize("kind", ["log", "users", "videos"])
def test_a_file_cut_in_mid_row_is_read_but_for_that_row(folder, kind):
    folder.log({}, name="log_random_a.csv")
    path = getattr(folder, kind)({}, {})
    path.write_text(path.read_text()[:-30])
    source = folder.read()
    (reject,) = [r for r in source.intake.rejects() if r.reason != "repeated"]
    assert (reject.file, reject.line, reject.column, reject.reason) == (path.name, 3, None, "wrong_cells")


def test_an_empty_file_beside_a_full_one_is_named(folder, ingested):
    folder.log({})
    (folder.path / "log_standard_b.csv").touch()
    with pytest.raises(
        SystemExit,
        match="log_standard_b.csv is empty or begins with a blank line; a header line and data rows are expected",
    ):
        ingested()
    assert ingested.left() == []


def test_features_in_latin_1_cost_their_rows(folder, ingested):
    folder.log({})
    path = folder.users({"user_id": 4, "user_active_degree": "caf\u00e9"}, {"user_active_degree": "tea"})
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    with pytest.raises(SystemExit, match="user_features_hand.csv: 1 of 2 rows"):
        ingested()
    ingested(max_rejected_share=0.5)
    assert pq.read_table("data/tables/users.parquet")["user_active_degree"].to_pylist() == ["tea"]


def test_features_with_a_stray_quote_are_a_user_error(folder, ingested):
    folder.log({})
    folder.videos({"tag": '"12,65'}, {"video_id": 3})
    with pytest.raises(SystemExit, match="video_features_basic_hand.csv: 1 of 1 rows.*\n.*1 wrong cells"):
        ingested()
    assert ingested.left() == ["data/quarantine.parquet"]


# --- the disk ---


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device", "data/tables")


def full_for_duckdb(*_, **__):
    raise duckdb.IOException('IO Error: Could not write file "tables.duckdb": No space left on device')


@pytest.mark.parametrize("error", [full, full_for_duckdb])
@pytest.mark.parametrize("at", ["interactions", "users", "truth_topics"])
def test_a_disk_that_fills_up_leaves_no_table(folder, ingested, monkeypatch, error, at):
    folder.log({})
    write = engine.Connection.to_parquet

    def fails(self, table, path, **options):
        write(self, table, path, **options)
        if f".{at}." in path:
            error()

    monkeypatch.setattr(engine.Connection, "to_parquet", fails)
    with pytest.raises(SystemExit, match="No space left on device") as caught:
        ingested()
    assert str(caught.value).startswith("\nerror: ")
    assert ingested.left() == ["data/quarantine.parquet"]


def test_a_disk_that_fills_up_leaves_the_tables_of_the_last_run(folder, ingested, monkeypatch):
    folder.log({})
    ingested()
    before = pq.read_table("data/tables/interactions.parquet").to_pylist()
    folder.log({}, {"video_id": 7})
    monkeypatch.setattr(engine.Connection, "to_parquet", full)
    with pytest.raises(SystemExit):
        ingested()
    assert pq.read_table("data/tables/interactions.parquet").to_pylist() == before
    assert [name for name in ingested.left() if ".tmp" in name] == []


def test_a_disk_that_is_full_while_reading_is_a_message(folder, ingested, monkeypatch):
    folder.log({})
    monkeypatch.setattr("nextreel.raw.intake.Intake._run", full_for_duckdb)
    with pytest.raises(SystemExit, match="free disk space, and run again"):
        ingested()
    assert ingested.left() == []


def test_a_folder_that_may_not_be_written_is_a_message(folder, ingested, monkeypatch):
    folder.log({})

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "data")

    monkeypatch.setattr("pathlib.Path.mkdir", denied)
    with pytest.raises(SystemExit, match=r"error: Permission denied \(data\): mend it and run again"):
        ingested()
    assert ingested.left() == []


def test_a_log_that_may_not_be_read_is_a_message(folder, ingested, monkeypatch):
    path = folder.log({})
    opened = type(path).open

    def denied(self, *arguments, **options):
        if self.name == path.name:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(type(path), "open", denied)
    with pytest.raises(SystemExit, match="Permission denied"):
        ingested()


def test_a_writer_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    """The last bytes of a table are written as it is closed."""
    close = pq.ParquetWriter.close

    def fails(self):
        close(self)
        full()

    monkeypatch.setattr(pq.ParquetWriter, "close", fails)
    with pytest.raises(
        OSError, match="No space left"
    ) as caught:  # holds the frames, so that nothing is tidied by chance
        arrays.write({"x": np.arange(3)}, tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == [], caught


def test_tables_that_differ_from_the_schema_are_not_left(folder, tmp_path, monkeypatch):
    folder.log({})
    source = folder.read()
    source.tables["users"] = source.tables["users"].mutate(user_idx=ibis.literal(0, "int32"))
    with pytest.raises(ValueError, match="user_idx goes from 0 to 0"):
        datasets.write_tables(source.intake.con, source, tmp_path / "tables")
    assert list(tmp_path.iterdir()) == []


# --- captions and categories ---


CATEGORIES = [
    f"{level}_level_category_{kind}" for kind in ("id", "name") for level in ("first", "second", "third", "fourth")
]


def more(folder, captions=None, categories=None):
    """The files of captions and categories, lines as they stand."""
    if captions is not None:
        text = "".join(f"{line}\n" for line in ["final_video_id,caption,show_cover_text", *captions])
        (folder.path / "kuairand_video_captions.csv").write_text(text, encoding="utf-8")
    if categories is not None:
        header = ",".join(["final_video_id", *CATEGORIES])
        text = "".join(f"{line}\n" for line in [header, *categories])
        (folder.path / "kuairand_video_categories.csv").write_text(text, encoding="utf-8")


def videos(folder):
    source = folder.read()
    return source, source.tables["videos"].order_by("video_idx").to_pyarrow().to_pylist()


def test_captions_join_by_video_and_add_none(folder):
    folder.log({"video_id": 2}, {"video_id": 5}, {"video_id": 9})
    folder.videos({"video_id": 2}, {"video_id": 7})
    more(folder, ['9,"caf\u00e9, again ""and"" again\n\nnew line",cover', "2,plain,", "77,of nobody,x", "7,,y"])
    source, found = videos(folder)
    assert [(v["video_id"], v["caption"], v["cover_text"]) for v in found] == [
        (2, "plain", None),
        (5, None, None),
        (7, None, "y"),
        (9, 'caf\u00e9, again "and" again\n\nnew line', "cover"),
    ]
    assert sum(source.rejected(logs=False).values()) == 0
    assert [v["author_id"] for v in found] == [5, None, 5, None]


def test_categories_join_by_video_and_minus_124_is_unknown(folder):
    folder.log({"video_id": 2}, {"video_id": 5}, {"video_id": 9})
    more(
        folder,
        categories=["9,1,20,-124,-124,Music,Pop,,", '2,4.0,-124,,7,"Food, drink",UNKNOWN,,x', "3,1,2,3,4,a,b,c,d"],
    )
    source, found = videos(folder)
    names = [f"category_{n}_{kind}" for kind in ("id", "name") for n in (1, 2, 3, 4)]
    assert [[v[name] for name in names] for v in found] == [
        [4, None, None, 7, "Food, drink", "UNKNOWN", None, "x"],
        [None] * 8,
        [1, 20, None, None, "Music", "Pop", None, None],
    ]
    assert found[0]["caption"] is None
    assert sum(source.rejected(logs=False).values()) == 0


def test_bad_captions_and_categories_stand_in_the_quarantine(folder):
    folder.log({"video_id": 2})
    more(folder, ['x,"two\nlines",', "2,first,", ",a,", "2,second,"], ["2,1.5,1,1,1,a,b,c,d", "2,1,1,1,1,a,b,c,d"])
    source, (video,) = videos(folder)
    assert (video["caption"], video["category_1_id"]) == ("first", 1)
    rows = source.intake.quarantine().order_by("file", "line").to_pyarrow().to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("kuairand_video_captions.csv", 2, "final_video_id", "x", "not_a_number"),
        ("kuairand_video_captions.csv", 5, "final_video_id", None, "missing"),
        ("kuairand_video_captions.csv", 6, None, None, "repeated"),
        ("kuairand_video_categories.csv", 2, "first_level_category_id", "1.5", "fraction"),
    ]


def test_captions_without_their_column_are_named(folder, ingest):
    folder.log({})
    (folder.path / "kuairand_video_captions.csv").write_text("final_video_id,text\n1,a\n")
    with pytest.raises(UserError, match="kuairand_video_captions.csv: columns missing: caption, show_cover_text"):
        kuairand.inspect(ingest(folder.path))
