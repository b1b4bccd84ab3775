"""What a column of raw files spans, without reading them into tables."""

from nextreel.raw import sources
from nextreel.raw.columns import Column


def test_time_range_spans_files_and_skips_text(con, csv):
    paths = [csv("time_ms,x\n30,1\nlater,1\n20.0,1\n", "1.csv"), csv("x,time_ms\n1,50\n999\n", "2.csv")]
    assert sources.time_range(con, paths, "time_ms", Column(0, 100)) == (20, 50)


def test_time_range_skips_what_is_not_possible(con, csv):
    assert sources.time_range(con, [csv("t\n3\n40\n500\nnan\n")], "t", Column(10, 100)) == (40, 40)


def test_time_range_of_no_rows_is_none(con, csv):
    assert sources.time_range(con, [csv("time_ms,x\n")], "time_ms", Column(0, 100)) is None


def test_time_range_understands_a_quoted_header(con, csv):
    assert sources.time_range(con, [csv('"time_ms","x"\n30,1\n')], "time_ms", Column(0, 100)) == (30, 30)


# --- repeats ---
