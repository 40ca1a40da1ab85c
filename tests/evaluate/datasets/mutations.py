"""Tables as they come from other hands: cells, rows, headers and bytes that should not be there."""

import csv
import io

import numpy as np

CELLS = (
    *("", " ", "nan", "NA", "None", "-", "NaT", "inf", "-inf", "1e999", "1e308", "1e-320", "-1"),
    *("9" * 400, "x" * 200_000, "0x10", "1_000", "1,5", "1/0", "12/03/2020", "2020-01-01", "12:30"),
    *("TRUE", "train", "../../etc/passwd", "\0", "a\0b", '"', '""', "a\nb", "\r", "\t", ";"),
    *("\ufeff", "é", "１２", "𝟙", "∞", "{'NORM': 100.0", "'NORM'", "[1, 2]", "(" * 300),
)


def mutated(table, rng):
    """Returns a table of text as the bytes of a file of which something is wrong, or unusual."""
    rows = [list(map(str, table.columns)), *table.astype(str).to_numpy(object).tolist()]
    changes = (_cells, _column, _headers, _swapped, _twice, _ragged, _longer, _fewer, _again)
    rows = changes[rng.integers(len(changes))](rows, rng)
    text = io.StringIO()
    csv.writer(
        text,
        quoting=(csv.QUOTE_MINIMAL, csv.QUOTE_ALL)[rng.integers(2)],
        delimiter=",;\t"[rng.integers(3)],
        lineterminator=("\n", "\r\n", "\r")[rng.integers(3)],
    ).writerows(rows)
    content = text.getvalue().encode()
    return content if rng.random() < 0.7 else damaged(content, rng)


def _place(rows, rng, first=0):
    return rng.integers(first, len(rows)), rng.integers(len(rows[0]))


def _cells(rows, rng):
    for _ in range(rng.integers(1, 6)):
        row, column = _place(rows, rng, 1)
        rows[row][column] = CELLS[rng.integers(len(CELLS))]
    return rows


def _column(rows, rng):
    _, column = _place(rows, rng)
    cell = CELLS[rng.integers(len(CELLS))]
    for row in rows[1:]:
        row[column] = cell
    return rows


def _headers(rows, rng):
    _, column = _place(rows, rng)
    rows[0][column] = CELLS[rng.integers(len(CELLS))]
    return rows


def _swapped(rows, rng):
    one, other = rng.integers(len(rows[0]), size=2)
    rows[0][one], rows[0][other] = rows[0][other], rows[0][one]
    return rows


def _twice(rows, rng):
    """A column twice, or not at all."""
    _, column = _place(rows, rng)
    if rng.random() < 0.7:
        return [[*row, row[column]] for row in rows]
    return [row[:column] + row[column + 1 :] for row in rows]


def _ragged(rows, rng):
    for _ in range(rng.integers(1, 4)):
        row, column = _place(rows, rng)
        rows[row] = rows[row][:column] if rng.random() < 0.5 else [*rows[row], "more"]
    return rows


def _longer(rows, rng):
    """A cell too many in every row but the header."""
    cell = ("", "1")[rng.integers(2)]
    return [rows[0], *([*row, cell] for row in rows[1:])]


def _fewer(rows, rng):
    return rows[: rng.integers(5)]


def _again(rows, rng):
    """Rows or the header once more, a remark, an empty line."""
    row, _ = _place(rows, rng)
    rows.insert(int(rng.integers(1, len(rows))), list(rows[row]))
    rows.insert(int(rng.integers(len(rows))), [[], ["# a remark"]][rng.integers(2)])
    return rows


def damaged(content, rng):
    """Returns other bytes: cut short, flipped, of another encoding, with junk in them, or junk."""
    at = int(rng.integers(len(content) + 1))
    flipped = bytearray(content)
    for place in rng.integers(len(content), size=3) if content else ():
        flipped[place] ^= 1 << rng.integers(8)
    return (
        content[:at],
        bytes(flipped),
        content[:at] + rng.bytes(50) + content[at:],
        content[:at] + b"\0\0" + content[at:],
        content[:at] + b'"' + content[at:],
        b"\xef\xbb\xbf" + content,
        content.decode(errors="replace").encode("utf-16"),
        content.decode(errors="replace").encode("latin-1", "replace"),
        rng.bytes(2000),
        np.arange(9).tobytes(),
    )[rng.integers(10)]
