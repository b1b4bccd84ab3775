"""Tables that fit in memory, or come batch by batch, as numpy columns: to Parquet and back."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nextreel.files import replacing

Columns = dict[str, np.ndarray]  # a table: equally long columns by name


def write(columns: Mapping[str, np.ndarray], path: Path) -> None:
    """Write equally long numpy arrays as the columns of a table."""
    with Writer(path) as writer:
        writer.add(columns)


class Writer:
    """A table written batch by batch from numpy columns, whole or absent.

    Used as a context manager; every batch has the same columns and types. At least one batch, empty or not.
    """

    def __init__(self, path: Path) -> None:
        self._replacing = replacing(path)

    def __enter__(self) -> "Writer":
        self._temporary = self._replacing.__enter__()
        self._file: pq.ParquetWriter | None = None
        return self

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        batch = pa.table(dict(columns))
        if self._file is None:
            self._file = pq.ParquetWriter(self._temporary, batch.schema, compression="zstd")
        self._file.write_table(batch)

    def __exit__(self, *error: object) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except BaseException:  # a full disk
            self._replacing.__exit__(*sys.exc_info())
            raise
        self._replacing.__exit__(*error)  # type: ignore[arg-type]


def load(
    path: Path, where: list[tuple[str, str, object]] | None = None, columns: list[str] | None = None
) -> dict[str, np.ndarray]:
    """A table that fits in memory as numpy columns, in its own row order; lists of one length become 2-D.

    `where` keeps the rows that satisfy all of its comparisons, such as ("rank", "<=", 10).
    """
    table = pq.read_table(path, filters=where, columns=columns, partitioning=None)
    return {name: _numpy(table[name].combine_chunks()) for name in table.column_names}


def _numpy(column: pa.Array) -> np.ndarray:
    if not pa.types.is_list(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(len(column), -1 if len(column) else 0))
