"""The places of line breaks within quotes, from the bytes alone. `test_raw` sees the rest at work."""

from nextreel.raw import filebytes


def test_line_breaks_are_found(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('a,b\n1,"x\n\ny"\n2,z" w\n3,"""\n"\n4,"p\nq"\n')
    record, so_far, closed = filebytes.breaks(path)
    assert (record.tolist(), so_far.tolist(), closed) == ([2, 4, 5], [2, 3, 4], True)


def test_a_text_without_its_closing_quote_is_found(tmp_path):
    path = tmp_path / "x.csv"
    for end, closed in (('"b, c', False), ('"b', False), ('b"', True), ('"b"', True), ('"b""', False), ("", True)):
        path.write_text(f'a,b\n1,5" x\n2,{end}')
        assert filebytes.breaks(path).closed == closed, end


def test_lines_are_counted_but_for_blank_ones_at_the_end(tmp_path, monkeypatch):
    path = tmp_path / "x.csv"
    for size in (1, 2, 3, 1000):
        monkeypatch.setattr(filebytes, "_BLOCK", size)
        for text, n_lines in (("", 0), ("1,2", 1), ("1,2\n", 1), ("1,2\n\n\r\n", 1), ("1,2\n\n3,4\n", 3), ("\n\n", 0)):
            path.write_text(f"a,b\n{text}", newline="")
            assert filebytes.digest(path).n_lines == n_lines, (size, text)


def test_a_stray_quote_in_the_first_row_is_not_followed_to_the_end(tmp_path, monkeypatch):
    path = tmp_path / "x.csv"
    path.write_text('a,b\n"1,2,\n' + "3,4\n" * 5_000)
    read = []
    reader = filebytes.csv.reader
    monkeypatch.setattr(filebytes.csv, "reader", lambda lines: reader(read.append(line) or line for line in lines))
    assert filebytes.header(path) == ["a", "b"]
    assert filebytes.n_spare_cells(path) == 0
    assert len(read) < 2_000
