"""Uploads: weighed before they are unpacked, never executed, imported by a job of their own."""

from __future__ import annotations

import re
import secrets
import zlib
from pathlib import Path

from foliocast.core.errors import ConfigError, DataError
from foliocast.runtime.files import whole_file

ENDINGS = {"csv": ".csv", "csv.gz": ".csv.gz", "parquet": ".parquet"}
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
PIECE = 1 << 20
MAX_CELLS = 50_000_000  # rows x columns of a Parquet file: a run-length of one value takes no bytes at all


class TooLargeError(DataError):
    """An upload that would unpack to more than is allowed."""


def keep_upload(body: bytes, form: str, folder: Path, limit: int) -> Path:
    """Write an upload aside under a name of our own, once it is known to be what it says and to unpack within limits.

    Parameters
    ----------
    body : bytes
    form : {"csv", "csv.gz", "parquet"}
    folder : Path
    limit : int
        Bytes that it may unpack to.

    Raises
    ------
    DataError
        It is empty, or not of this form.
    TooLargeError
        It unpacks to more than the limit.
    """
    if form not in ENDINGS:
        raise ConfigError(f"no upload form '{form}'; there are {', '.join(ENDINGS)}")
    if not body:
        raise DataError("the upload is empty")
    if form == "csv.gz":
        _weigh_gzip(body, limit)
    path = folder / (secrets.token_hex(16) + ENDINGS[form])
    with whole_file(path) as aside:
        aside.write_bytes(body)
        if form == "parquet":
            _weigh_parquet(aside, limit)
    return path


def _weigh_gzip(body: bytes, limit: int) -> None:
    """Unpack in pieces and throw them away: memory stays at one piece, whatever the file claims."""
    total, data = 0, body
    while data:
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            while not unpacker.eof:
                size = len(unpacker.decompress(data, PIECE))
                total += size
                data = unpacker.unconsumed_tail
                if total > limit:
                    raise TooLargeError(f"the upload unpacks to more than {limit // 1024 // 1024} MiB")
                if not data and size < PIECE and not unpacker.eof:
                    raise DataError("the upload is cut off: it is not a whole gzip file")
        except zlib.error as error:
            raise DataError(f"the upload is not gzip: {error}") from None
        data = unpacker.unused_data.lstrip(b"\0")


def _weigh_parquet(path: Path, limit: int) -> None:
    """What the footer promises; the reader stops where the footer does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.ParquetFile(path).metadata
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"the upload is not Parquet: {str(error)[:120]}") from None
    groups = [about.row_group(k) for k in range(about.num_row_groups)]
    columns = [group.column(j) for group in groups for j in range(group.num_columns)]
    values = max(sum(column.num_values for column in columns), about.num_rows * about.num_columns)
    unpacked = sum(column.total_uncompressed_size for column in columns)
    if unpacked > limit or values > MAX_CELLS:
        raise TooLargeError(
            f"the upload unpacks to {values} cells and {unpacked // 1024 // 1024} MiB; "
            f"{MAX_CELLS} cells and {limit // 1024 // 1024} MiB are accepted"
        )
