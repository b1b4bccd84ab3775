"""Raw ids are numbered by rank: numbers by value, texts by their UTF-8 bytes, whatever the machine's language."""

import ibis
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nextreel import datasets, schema


def numbered(con, ids, features=None):
    """{id: index} of a log with these ids, as often as they stand there."""
    tables = [ibis.memtable(pa.table({"user_id": each})) for each in (ids, features) if each is not None]
    con.raw_sql("DROP TABLE IF EXISTS user_ids")
    found = datasets.index(con, "user", *tables).to_pyarrow().to_pydict()
    assert len(set(found["user_id"])) == len(found["user_id"])
    return dict(zip(found["user_id"], found["user_idx"], strict=True))


def by_bytes(ids):
    return {text: rank for rank, text in enumerate(sorted(set(ids), key=lambda text: text.encode()), 1)}


def test_numbers_are_in_order_of_value(con):
    assert numbered(con, pa.array([12, 3, 100, 3])) == {3: 1, 12: 2, 100: 3}


@pytest.mark.parametrize(
    "ids",
    [
        ["12", "00012", "012", "12 ", " 12", "1", "100", "9"],
        ["anna", "Anna", "ANNA", "an", "anna-", "annab", "Zoë", "zoe", "zoé", "ångström", "Ängström"],
        ["", " ", "  ", "\t", "\x00", "a", "a\x00", "a\x00b", "a "],
        ["\uffff", "\U0001f600", "\ue000", "\ud7ff", "日本", "日", "é", "e\u0301", "ß", "ss"],
    ],
    ids=["digits", "handles", "blanks", "scripts"],
)
def test_texts_are_in_order_of_their_bytes(con, ids):
    """Case and accents count, a prefix comes first, and none is trimmed, normalised or read as a number."""
    assert numbered(con, pa.array(ids * 2)) == by_bytes(ids)
    assert numbered(con, pa.array(ids[:3]), pa.array(sorted(set(ids)))) == by_bytes(ids)


# Those that differ late are told apart only if the whole text is compared.
_TEXTS = st.one_of(st.text(max_size=30), st.text(alphabet="aA\x00 é", max_size=30).map(lambda end: 12 * "a" + end))


@given(st.lists(_TEXTS, min_size=1, max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_texts_are_in_order_of_their_bytes(con, ids):
    assert numbered(con, pa.array(ids)) == by_bytes(ids)


@pytest.mark.parametrize("kind", ["user", "video"])
def test_ids_that_are_text_are_written_as_they_are(con, tmp_path, kind):
    """And the written table passes its check."""
    ids = ["12", "00012", "Zoë", " "]
    rows = ibis.memtable(pa.table({f"{kind}_id": ids}))
    wanted = schema.TABLES[f"{kind}s"]
    tables = {f"{kind}s": schema.conform(datasets.index(con, kind, rows), wanted)}
    written = datasets.write_tables(con, datasets.Source(tables, None, [], "", ""), tmp_path / "tables")
    found = written[f"{kind}s"]
    assert found.columns == tuple(wanted)
    assert found[f"{kind}_id"].to_pyarrow().to_pylist() == [" ", "00012", "12", "Zoë"]
    assert written["videos" if kind == "user" else "users"].count().execute() == 0
