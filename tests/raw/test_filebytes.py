"""The places of line breaks within quotes, from the bytes alone. `test_raw` sees the rest at work."""

from nextreel.raw import filebytes


def test_line_breaks_are_found_across_blocks(tmp_path, monkeypatch):
    text = 'a,b\n1,"x\n\ny"\n2,z\n3,"""\n"\n4,"p\nq"\n'
    path = tmp_path / "x.csv"
    path.write_text(text)
    for size in (1, 2, 3, 7, 100):
        monkeypatch.setattr(filebytes, "_BLOCK", size)
        record, so_far = filebytes.breaks(path)
        assert (record.tolist(), so_far.tolist()) == ([2, 4, 5], [2, 3, 4])
