"""What the bytes of a raw file tell before an engine reads it: header, quote, digest, line breaks within quotes."""

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextreel.errors import UserError

_PLAIN = b"0123456789,-\r"  # the bytes of a line of whole numbers
_BLOCK = 1 << 20


def check_header(path: Path, columns: Iterable[str]) -> None:
    """Raise UserError where a CSV or Parquet file cannot be read at all, lacks one of `columns` or has one twice."""
    header = _parquet_header(path) if path.suffix == ".parquet" else _csv_header(path)
    lower = [c.lower() for c in header]  # DuckDB does not tell names apart by their capitals
    twice = sorted({c for c in header if lower.count(c.lower()) > 1})
    if twice:
        raise UserError(f"{path}: the header names {', '.join(twice)} more than once; rename or drop the copies")
    missing = [c for c in columns if c not in header]
    if missing:
        raise UserError(f"{path}: columns missing: {', '.join(missing)}; the header has: {', '.join(header)}")


def _csv_header(path: Path) -> list[str]:
    with path.open("rb") as file:
        start = file.readline()
    if start.startswith(b"\x1f\x8b"):
        raise UserError(f"{path} is gzip-compressed although its name ends in .csv; decompress it first (gunzip)")
    if not start.strip():
        raise UserError(f"{path} is empty; a header line and data rows are expected")
    try:
        return next(csv.reader([start.decode("utf-8-sig", errors="replace").strip()]))
    except csv.Error as error:
        raise UserError(f"{path}: the header cannot be read: {error}; lines must end in LF or CRLF") from None


def _parquet_header(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} cannot be read as Parquet, perhaps it is cut short: {error}") from None


def quote(path: Path) -> str:
    """The quote of a file of numbers: one only if the header has it."""
    with path.open("rb") as file:
        return '"' if b'"' in file.readline() else ""


class Digest(NamedTuple):
    """What one pass over the bytes of a file tells."""

    sha256: str
    n_lines: int  # of data
    plain: bool  # they hold whole numbers and nothing else


def digest(path: Path) -> Digest:
    """Read a file once, block by block."""
    sha256, n_lines, plain = hashlib.sha256(), 0, True
    with path.open("rb") as file:
        header = last = file.readline()
        sha256.update(header)
        while block := file.read(_BLOCK):
            sha256.update(block)
            rest = block.translate(None, _PLAIN) if plain else block
            n_ends = rest.count(b"\n")
            n_lines += n_ends
            plain = plain and n_ends == len(rest)
            last = block
    return Digest(sha256.hexdigest(), n_lines + (last is not header and not last.endswith(b"\n")), plain)


def breaks(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The records [m] of a CSV file, 1 = the header, that hold line breaks within quotes, and how many such breaks the
    file has up to their end."""
    records, so_far = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    n_quotes, n_records, n_breaks = 0, 1, 0
    with path.open("rb") as file:
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
