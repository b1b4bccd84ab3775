"""What the bytes of a raw file tell before an engine reads it: header, quote, digest, line breaks within quotes."""

import csv
import gzip
import hashlib
import re
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextreel.errors import UserError
from nextreel.params import nearest
from nextreel.raw import listing

_PLAIN = b"0123456789,-\r"  # the bytes of a line of whole numbers
_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_OTHERS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # that some put between cells


def header(path: Path) -> list[str]:
    """The names of a CSV or Parquet file's columns, in their order. Raises UserError where it cannot be read at all."""
    return list(schema(path).names) if listing.form(path) == "parquet" else _csv_header(path)


def check_header(path: Path, columns: Iterable[str]) -> None:
    """Raise UserError where a CSV or Parquet file cannot be read at all, lacks one of `columns` or has one twice. What
    the others are called does not matter."""
    names = header(path)
    twice = [c for c in columns if names.count(c) > 1]
    if twice:
        raise UserError(f"{path}: the header names {', '.join(twice)} more than once; rename or drop the copies")
    missing = [c for c in columns if c not in names]
    if missing:
        raise UserError(
            f"{path}: columns missing: {', '.join(missing)}; the header has: {', '.join(names)}"
            f"{_other_delimiter(names) or _in_folders(path, missing) or nearest(missing[0], names)}"
        )


def _other_delimiter(names: list[str]) -> str:
    if len(names) > 1:
        return ""
    found = [word for mark, word in _OTHERS.items() if mark in names[0]]
    return f" (is it written with {found[0]}? Cells are to be parted by commas)" if found else ""


def _in_folders(path: Path, missing: list[str]) -> str:
    named = [part for part in path.parent.parts if part.split("=")[0] in missing and "=" in part]
    return f" (a folder is called {named[0]}: what stands in names of folders is not read)" if named else ""


def _csv_header(path: Path) -> list[str]:
    with opened(path) as file:
        start = file.readline()
    if start.startswith(_GZIP):
        raise UserError(f"{path} is gzip-compressed although its name ends in .csv; call it .csv.gz")
    if start.startswith(_UTF16) or b"\0" in start:
        raise UserError(f"{path} is no UTF-8 text (UTF-16?); save it as UTF-8, with iconv for example")
    if not start.strip():
        raise UserError(f"{path} is empty; a header line and data rows are expected")
    try:
        return next(csv.reader([start.decode("utf-8-sig", errors="replace").strip("\r\n")]))
    except csv.Error as error:
        raise UserError(f"{path}: the header cannot be read: {error}; lines must end in LF or CRLF") from None


def schema(path: Path) -> pa.Schema:
    """Of a Parquet file. Raises UserError where it is none."""
    try:
        return pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} cannot be read as Parquet, perhaps it is cut short: {error}") from None


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked where its name ends in .gz. Raises UserError where that cannot be done."""
    try:
        if listing.compressed(path):
            with gzip.open(path) as unpacked:
                yield cast("IO[bytes]", unpacked)
        else:
            with path.open("rb") as file:
                yield file
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path} cannot be unpacked, perhaps it is cut short: {error}") from None


def quote(path: Path) -> str:
    """The quote of a file of numbers: one only if the header has it."""
    with opened(path) as file:
        return '"' if b'"' in file.readline() else ""


def n_spare_cells(path: Path) -> int:
    """How many empty cells the first row has beyond the header: some programs end their rows, but not the header, with
    a comma."""
    with opened(path) as file:
        lines = [file.readline().decode("utf-8-sig", errors="replace").strip("\r\n") for _ in range(2)]
    try:
        names, cells = ([*csv.reader([line]), []][0] for line in lines)
    except csv.Error:
        return 0
    return 0 if any(cells[len(names) :]) else max(len(cells) - len(names), 0)


class Digest(NamedTuple):
    """What one pass over the bytes of a file tells."""

    sha256: str
    n_lines: int  # of data
    plain: bool  # they hold whole numbers and nothing else
    n_quotes: int


def digest(path: Path) -> Digest:
    """Read a file once, block by block; a compressed one twice, since its digest is that of the bytes on the disk."""
    sha256, n_lines, plain = hashlib.sha256(), 0, True
    with opened(path) as file:
        first = last = file.readline()
        n_quotes = first.count(b'"')
        sha256.update(first)
        while block := file.read(_BLOCK):
            sha256.update(block)
            rest = block.translate(None, _PLAIN) if plain else block
            n_ends = rest.count(b"\n")
            n_quotes += rest.count(b'"')
            n_lines += n_ends
            plain = plain and n_ends == len(rest)
            last = block
    if listing.compressed(path):
        with path.open("rb") as packed:
            sha256 = hashlib.file_digest(packed, "sha256")
    n_lines += last is not first and not last.endswith(b"\n")
    return Digest(sha256.hexdigest(), n_lines, plain, n_quotes)


def breaks(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The records [m] of a CSV file, 1 = the header, that hold line breaks within quotes, and how many such breaks the
    file has up to their end."""
    records, so_far = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    n_quotes, n_records, n_breaks = 0, 1, 0
    with opened(path) as file:
        while block := file.read(_BLOCK):
            byte = np.frombuffer(block, np.uint8)
            newline = np.flatnonzero(byte == ord("\n"))
            quote = np.flatnonzero(byte == ord('"'))
            within = (n_quotes + np.searchsorted(quote, newline)) % 2 == 1
            record = n_records + (~within).cumsum()  # the one that goes on after a break
            records.append(record[within])
            so_far.append(n_breaks + within.cumsum()[within])
            n_quotes, n_breaks = n_quotes + len(quote), n_breaks + int(within.sum())
            n_records += int((~within).sum())
    record, count = np.concatenate(records), np.concatenate(so_far)
    last = np.flatnonzero(np.diff(record, append=-1) != 0)  # of each record
    return record[last], count[last]


def ends_within_quotes(path: Path) -> bool:
    """Whether the last line of a CSV file with an odd number of quotes opens a text and does not close it."""
    with opened(path) as file:
        (last,) = deque(file, maxlen=1)
    return re.search(rb'(^|,)"([^"]|"")*$', last.rstrip(b"\r\n")) is not None


def first_line_with(path: Path, words: bytes) -> int | None:
    """The number of the first line of a file that holds some bytes, 1 = the header."""
    with opened(path) as file:
        return next((number for number, line in zip(count(1), file, strict=False) if words in line), None)
