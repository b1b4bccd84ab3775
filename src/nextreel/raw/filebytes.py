"""What the bytes of a raw file tell before an engine reads it: header, quote, digest, line breaks within quotes."""

import csv
import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextreel.errors import UserError
from nextreel.raw import listing

_PLAIN = b"0123456789,\r"  # the bytes of a line of whole numbers
_BLOCK = 1 << 20
_TAIL = 1 << 12  # enough for the blank lines at the end of a file
_HEAD = 1_000  # lines that the header and the first row may take: a stray quote would go on to the end of the file
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
            f"{_other_delimiter(names) or _in_folders(path, missing) or _nearly(missing, names)}"
        )


def _other_delimiter(names: list[str]) -> str:
    if len(names) > 1:
        return ""
    found = [word for mark, word in _OTHERS.items() if mark in names[0]]
    return f" (is it written with {found[0]}? Cells are to be parted by commas)" if found else ""


def _in_folders(path: Path, missing: list[str]) -> str:
    named = [part for part in path.parent.parts if part.split("=")[0] in missing and "=" in part]
    return f" (a folder is called {named[0]}: what stands in names of folders is not read)" if named else ""


def _nearly(missing: list[str], names: list[str]) -> str:
    alike = [name for name in names if name.strip().lower() == missing[0].strip().lower()]
    return f"; did you mean {alike[0]!r}?" if alike else ""


def _csv_header(path: Path) -> list[str]:
    with opened(path) as file:
        start = file.readline()
    if start.startswith(_GZIP):
        raise UserError(f"{path} is gzip-compressed although its name ends in .csv; call it .csv.gz")
    if start.startswith(_UTF16) or b"\0" in start:
        raise UserError(f"{path} is no UTF-8 text (UTF-16?); save it as UTF-8, with iconv for example")
    if not start.strip():
        raise UserError(f"{path} is empty or begins with a blank line; a header line and data rows are expected")
    try:
        with _lines(path) as lines:
            return next(csv.reader(islice(lines, _HEAD)))
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
    with _lines(path) as lines:
        records = csv.reader(islice(lines, _HEAD))
        n_names, cells = len(next(records)), next(records, [""])
    return 0 if any(cells[n_names:]) else max(len(cells) - n_names, 0)


class Digest(NamedTuple):
    """What one pass over the bytes of a file tells."""

    sha256: str
    n_lines: int  # of data, but for blank ones at the end
    plain: bool  # they hold whole numbers, none of them negative, and nothing else
    n_quotes: int


def digest(path: Path) -> Digest:
    """Read a file once, block by block; a compressed one twice, since its digest is that of the bytes on the disk."""
    sha256, n_lines, plain = hashlib.sha256(), 0, True
    with opened(path) as file:
        first = tail = file.readline()
        n_quotes = first.count(b'"')
        sha256.update(first)
        while block := file.read(_BLOCK):
            sha256.update(block)
            rest = block.translate(None, _PLAIN) if plain else block
            n_ends = rest.count(b"\n")
            n_lines += n_ends
            n_quotes += rest.count(b'"')
            plain = plain and n_ends == len(rest)
            tail = tail[-_TAIL:] + block if len(block) < _TAIL else block
    if listing.compressed(path):
        with path.open("rb") as packed:
            sha256 = hashlib.file_digest(packed, "sha256")
    ending = tail[len(tail.rstrip(b"\r\n")) :].count(b"\n")
    n_lines += 1 - ending if tail is not first else 0
    return Digest(sha256.hexdigest(), n_lines, plain, n_quotes)


@contextmanager
def _lines(path: Path) -> Iterator[IO[str]]:
    """The lines of a CSV file as Python's reader of such files wants them; what is no UTF-8 does not matter."""
    csv.field_size_limit(sys.maxsize)
    with opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="") as lines:
        yield lines


class Breaks(NamedTuple):
    """Line breaks within quotes."""

    record: np.ndarray  # [m]: those that hold any, 1 = the header
    so_far: np.ndarray  # [m]: how many the file has up to their end
    closed: bool  # False: the last text has no closing quote


def breaks(path: Path) -> Breaks:
    """Where they are in a CSV file. Row by row, and so only asked for where a file has fewer records than lines, or a
    quote that has no other."""
    record, so_far, n_lines, closed, end = [], [], 0, False, "the end"
    with _lines(path) as lines:
        records = csv.reader(chain(lines, [end]))
        for number, cells in enumerate(records, 1):
            if records.line_num > n_lines + 1:
                record.append(number)
                so_far.append(records.line_num - number)
            n_lines, closed = records.line_num, cells == [end]
    return Breaks(np.array(record, np.int64), np.array(so_far, np.int64), closed)


def oddity(path: Path) -> str:
    """What stands in the lines of a CSV file that an engine may stumble over, with the first line of each; nothing if
    there is none."""
    first: dict[str, int] = {}
    with opened(path) as file:
        ending = b"\n"
        for number, line in enumerate(file, 1):
            if number == 1 and line.endswith(b"\r\n"):
                ending = b"\r\n"
            here = line.rstrip(b"\r\n")
            for what, there in (
                ('has \\": a quote within quotes is written twice in a CSV file, ""', b'\\"' in here),
                ("is blank", not here),
                ("ends otherwise than the first", b"\r" in here or line[len(here) :] not in (ending, b"")),
            ):
                if there:
                    first.setdefault(what, number)
    return "".join(f"; line {number} {what}" for what, number in first.items())
