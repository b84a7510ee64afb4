"""From a file to named columns: compression, encoding, delimiter, preamble and header rows, by content."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import re
import statistics
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from foliocast.core.errors import DataError
from foliocast.data.sources import names

TEXT = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
PARQUET = (".parquet", ".pq")
EMPTY = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "-", "--"]
_MAGIC = {
    b"PAR1": "a Parquet file; rename it to .parquet",
    b"PK\x03\x04": "an Excel workbook or zip archive; save the sheet as CSV",
    b"\x1f\x8b": "gzip-compressed; rename it to .csv.gz",
    b"%PDF": "a PDF; it needs a table of prices",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
}
_NUMBER = re.compile(r"^[-+]?[$€£¥]?\s?[\d,.]*\d(e[-+]?\d+)?%?$", re.IGNORECASE)
_DATE = re.compile(
    r"^\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?(\b|T)|^\d{8}$|^\d{10}$|^\d{13}$|^\d{1,2}[- ][A-Za-z]{3}|^[A-Z][a-z]{2,8} \d"
)
_LOOK_AHEAD = 30


@dataclass(frozen=True)
class Sheet:
    """Columns of a file, as they are written.

    Attributes
    ----------
    headers : list of tuple of str
        One tuple a column, as long as there are header rows.
    columns : list of pyarrow.ChunkedArray
    first_row : int
        Row number, as a spreadsheet counts, of the first record.
    origin : str
        File name.
    """

    headers: list[tuple[str, ...]]
    columns: list[pa.ChunkedArray]
    first_row: int
    origin: str

    @property
    def n_rows(self) -> int:
        return len(self.columns[0]) if self.columns else 0


def read_sheet(path: Path) -> Sheet:
    """Read a text or Parquet file.

    Raises
    ------
    DataError
        If it does not exist, is empty, is not what its name says, or has ragged rows or no header.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, expected a file; name one .csv, .csv.gz or .parquet file")
    if not path.exists():
        raise DataError(f"no file at {path}; check the path")
    name = path.name.lower()
    if not name.endswith((*TEXT, *PARQUET)):
        raise DataError(f"{path.name} has an unknown ending, expected one of {', '.join((*TEXT, *PARQUET))}")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is an empty file (0 bytes), expected dates and prices; download it again")
    return _parquet(path) if name.endswith(PARQUET) else _text(path)


def stem(path: Path) -> str:
    """File name without any of its endings."""
    return re.sub(r"(\.(csv|tsv|txt|parquet|pq))?(\.gz)?$", "", path.name, flags=re.IGNORECASE)


# ---- Parquet
def _parquet(path: Path) -> Sheet:
    try:
        table = pyarrow.parquet.ParquetFile(path).read(use_threads=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise DataError(
            f"{path.name} cannot be read as Parquet; it is damaged or is another kind of file, write it again"
        ) from error
    index = [name for name in (table.schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)]
    table = table.select([*index, *(name for name in table.column_names if name not in index)])
    headers = [_tuple_header(name) for name in table.column_names]
    depth = max((len(h) for h in headers), default=1)
    headers = [h if len(h) == depth else (h[0],) + ("",) * (depth - 1) for h in headers]
    return Sheet(headers, list(table.columns), 1, path.name)


def _tuple_header(name: str) -> tuple[str, ...]:
    """pandas writes two-row headers as "('close', 'AAPL')", and a nameless index as "__index_level_0__"."""
    if name.startswith("__index_level_"):
        return ("",)
    if name.startswith("('") and name.endswith(")"):
        try:
            value = ast.literal_eval(name)
        except (ValueError, SyntaxError):
            return (name,)
        return tuple(str(part) for part in value)
    return (name,)


# ---- text
def _text(path: Path) -> Sheet:
    data = _utf8(_inflated(path), path.name)
    head = data[: 1 << 18].decode("utf-8", errors="ignore").splitlines()[: _LOOK_AHEAD * 2]
    if not any(line.strip() for line in head):
        raise DataError(f"{path.name} holds nothing but blank lines, expected dates and prices; download it again")
    delimiter = _delimiter(head, path.name)
    rows = [[c.strip() for c in row] for row in csv.reader(head[:_LOOK_AHEAD], delimiter=delimiter)]
    start, depth = _header_rows(rows, path.name)
    width = len(rows[start])
    headers = [
        tuple(rows[start + level][i] if i < len(rows[start + level]) else "" for level in range(depth))
        for i in range(width)
    ]
    body = io.BytesIO(data)
    skip = start + depth
    words = [str(i) for i, head in enumerate(headers) if names.plain(head[0]) in (*names.ASSET, *names.CURRENCY)]
    decimal = _decimal(rows[skip : skip + 5], delimiter)
    table = _read_body(body, width, _Form(skip, delimiter, decimal, tuple(words)), path.name)
    kept = [i for i in range(width) if any(headers[i]) or table.column(i).null_count < len(table)]
    return Sheet([headers[i] for i in kept], [table.column(i) for i in kept], skip + 1, path.name)


def _inflated(path: Path) -> bytes:
    data = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path.name} is damaged or not gzip-compressed; download it again") from error
    return data


def _utf8(data: bytes, origin: str) -> bytes:
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise DataError(f"{origin} is not text but {what}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16", errors="replace").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data[: 1 << 16]:
        raise DataError(f"{origin} is a binary file, expected text with dates and prices; export it as CSV")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        sample = data[: 1 << 16]
        odd = sum(byte < 9 or 13 < byte < 32 or byte >= 127 for byte in sample)
        if odd > 0.1 * len(sample):
            raise DataError(
                f"{origin} is a binary file, expected text with dates and prices; export it as CSV"
            ) from None
        data = data.decode("latin-1").encode()
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _delimiter(lines: list[str], origin: str) -> str:
    """The sign that splits most lines into the same number of cells."""
    full = [line for line in lines[:_LOOK_AHEAD] if line.strip()]
    best, score = "", 0
    for sign in (";", "\t", "|", ","):
        counts = [len(next(csv.reader([line], delimiter=sign))) for line in full]
        mode = statistics.mode(counts)
        agreeing = counts.count(mode) if mode > 1 else sum(c > 1 for c in counts[:2])
        if agreeing > score:
            best, score = sign, agreeing
    if not best:
        raise DataError(
            f"{origin} has a single column, expected a date and prices separated by commas; check the export"
        )
    return best


def _looks_like_data(row: list[str]) -> bool:
    return bool(row) and bool(_DATE.match(row[0]))


def _header_rows(rows: list[list[str]], origin: str) -> tuple[int, int]:
    """Line of the first header row (after any preamble) and the number of header rows."""
    width = statistics.mode([len(row) for row in rows if row])
    start = next((i for i, row in enumerate(rows) if len(row) == width), 0)
    if width == 1:
        start = next((i for i, row in enumerate(rows) if len(row) > 1), 0)
    if _looks_like_data(rows[start]):
        raise DataError(
            f"{origin}: row {start + 1} already holds data, expected a header such as date,open,high,low,close"
        )
    cells = [cell for cell in rows[start] if cell]
    depth = 1
    if start + 1 < len(rows) and (len(set(cells)) < len(cells) or not any(map(_NUMBER.match, rows[start + 1]))):
        depth = next((i for i, row in enumerate(rows[start : start + 4]) if _looks_like_data(row)), 1)
    return start, max(depth, 1)


def _decimal(rows: list[list[str]], delimiter: str) -> str:
    comma = [cell for row in rows for cell in row[1:] if re.fullmatch(r"-?\d+,\d+", cell)]
    point = [cell for row in rows for cell in row[1:] if re.fullmatch(r"-?\d+\.\d+", cell)]
    return "," if delimiter != "," and comma and not point else "."


@dataclass(frozen=True)
class _Form:
    skip: int
    delimiter: str
    decimal: str
    words: tuple[str, ...]  # columns that stay text: "000001" and "NA" are tickers


def _read_body(body: io.BytesIO, width: int, form: _Form, origin: str) -> pa.Table:
    try:
        table = pyarrow.csv.read_csv(
            body,
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, skip_rows=form.skip, column_names=[str(i) for i in range(width)], block_size=1 << 26
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=form.delimiter),
            convert_options=pyarrow.csv.ConvertOptions(
                null_values=EMPTY,
                strings_can_be_null=False,
                decimal_point=form.decimal,
                column_types=dict.fromkeys(form.words, pa.string()),
                timestamp_parsers=["never"],
                true_values=[],
                false_values=[],
            ),
        )
    except pa.ArrowInvalid as error:
        found = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)(?:: (.*))?", str(error))
        if found:
            row = _row_of(body, (found[4] or "").strip(), int(found[1]))
            raise DataError(
                f"{origin}: row {row} has {found[3]} cells, expected {found[2]} as in the header; a cell was cut or "
                "holds an unquoted separator, correct it"
            ) from error
        if "Empty CSV" in str(error):
            raise DataError(
                f"{origin} has a header but no data rows, expected dates and prices; download it again"
            ) from error
        raise DataError(
            f"{origin} cannot be read as a table ({str(error).splitlines()[0]}); export it again"
        ) from error
    if not len(table):
        raise DataError(f"{origin} has a header but no data rows, expected dates and prices; download it again")
    return table


def _row_of(body: io.BytesIO, text: str, counted: int) -> int:
    """Row number of the line that the parser quotes; its own count leaves out blank lines."""
    lines = body.getvalue().decode(errors="replace").split("\n")
    return next((i + 1 for i, line in enumerate(lines) if text and line.strip() == text), counted)


# ---- values
def is_number(text: str) -> bool:
    """Whether a cell reads as an amount."""
    return bool(_NUMBER.match(text.strip()))


def numbers(column: pa.ChunkedArray, name: str, first_row: int, origin: str) -> np.ndarray:
    """A column as floats; text such as "$1,234.50" or "12.3M" is understood when the whole column allows it.

    Raises
    ------
    DataError
        Naming the row and column of the first cell that is no number, or of two currencies in one column.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(float)
    texts = np.array(["" if v is None else str(v).strip() for v in column.to_pylist()], dtype=object)
    return np.array(_parsed(texts, name, first_row, origin), dtype=float)


_SCALE = {"K": 1e3, "M": 1e6, "B": 1e9, "": 1.0}
_AMOUNT = re.compile(r"^([$€£¥]?)\s?(-?[\d,]*\.?\d+(?:[eE][-+]?\d+)?)\s?([KMB]?)([$€£¥]?)$")


def _parsed(texts: np.ndarray, name: str, first_row: int, origin: str) -> list[float]:
    out, sign_seen, seen_row = [], "", 0
    for i, text in enumerate(texts):
        if text in EMPTY:
            out.append(np.nan)
            continue
        found = _AMOUNT.match(text)
        if not found:
            try:
                out.append(float(text))
                continue
            except ValueError:
                shown = " ".join(text.split())[:40]
                raise DataError(
                    f"{origin}: '{shown}' is no number (row {first_row + i}, column '{name}'), expected a price or "
                    "volume; correct the cell, or remove the column"
                ) from None
        sign = found[1] or found[4]
        if sign_seen and sign and sign != sign_seen:
            raise DataError(
                f"{origin}: mixed currencies in column '{name}': {sign_seen} in row {seen_row}, {sign} in row "
                f"{first_row + i}, expected one; convert the prices or split the file"
            )
        if sign and not sign_seen:
            sign_seen, seen_row = sign, first_row + i
        out.append(float(found[2].replace(",", "")) * _SCALE[found[3]])
    return out
