"""What the columns of a table of samples are called, and what its time column says of the rate."""

import csv
import dataclasses
import re
from collections.abc import Iterable

import numpy as np

from clef_jax.data.recordings.channels import MV_PER_UNIT
from clef_jax.data.recordings.recording import RecordingError
from clef_jax.data.signals.leads import is_ecg, is_unnamed
from clef_jax.files import open_regular

_SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_SECONDS_PER_UNIT |= {"sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "msec": 1e-3}
_SECONDS_PER_UNIT |= {"millisecond": 1e-3, "milliseconds": 1e-3}
# A unit in brackets; or, where it can be nothing else, after a blank, an underscore or a slash.
_WITH_UNIT = re.compile(
    r"(?P<name>.*?)\s*(?:[\[(]\s*(?P<bracketed>\w+)\s*[\])]|[\s_/](?P<bare>[munµμ]v|[munµμ]?s))",
    re.IGNORECASE,
)
_TIME = re.compile(r"(elapsed[\s_]*)?time([\s_]*stamp)?|t|date[\s_]*(time)?", re.IGNORECASE)
# "Unnamed: 0" is what pandas calls the index that it once wrote without a name.
_COUNT = re.compile(r"(samples?|frame|row)?[\s_]*(#|no\.?|number|index)?|unnamed: 0", re.IGNORECASE)
# The clock of a computer is nearer to its rate; 250 and 256 Hz are 2.4 % apart.
_RATE_TOLERANCE = 0.005
_LARGEST_GAP_S = 0.1
_BYTES_OF_A_TABLE = 65_536
_LINES_OF_A_TABLE = 20


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table, by its title.

    Attributes:
        name: The title without quotes and unit.
        unit: The unit of voltage or time in it, if any.
        kind: "lead", "time", or "count" for one that numbers the samples.
    """

    name: str
    unit: str | None
    kind: str


def parse_title(title: str) -> Column:
    """Reads a title such as "II", "lead I [mV]", "V1_uV", "'MLII'", "time (ms)" or "sample #"."""
    title = title.strip().strip("'\"").strip()
    if title.lower() in _SECONDS_PER_UNIT:
        return Column(title, title, "time")
    if title.lower() in MV_PER_UNIT and title.lower() != "v":
        return Column("ECG", title, "lead")
    match = _WITH_UNIT.fullmatch(title)
    unit = match and (match["bracketed"] or match["bare"])
    name = match["name"] if match else title
    if _COUNT.fullmatch(title):
        return Column(title, None, "count")
    if _TIME.fullmatch(title):
        return Column(title, None, "time")
    if unit and unit.lower() in _SECONDS_PER_UNIT and _TIME.fullmatch(name):
        return Column(name, unit, "time")
    if unit and unit.lower() in MV_PER_UNIT:
        return Column(name, unit, "lead")
    return Column(title, None, "lead")


def separator_of(path: str) -> str:
    """Returns what stands between the cells of a CSV or TSV file, by its name."""
    return "\t" if path.lower().endswith(".tsv") else ","


def split_cells(path: str, lines: Iterable[str]) -> list[list[str]]:
    """Returns the cells of a CSV's or TSV's lines, without the blanks and quotes around them."""
    rows = csv.reader(lines, delimiter=separator_of(path))
    return [[cell.strip().strip("'\"") for cell in row] for row in rows]


def is_number(cell: str) -> bool:
    """Tells whether a cell can be a sample: a number, or nothing where one is missing."""
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def is_line_of_units(cells: Iterable[str]) -> bool:
    """Tells whether the line below the titles names units, as PhysioNet's tools write it."""
    return any(cell.lower() in MV_PER_UNIT for cell in cells)


def check_times(path: str, column: Column, times: np.ndarray, fs: float) -> None:
    """Compares a time column with the rate given for its file.

    Args:
        path: The file.
        column: The time column.
        times: [samples], what it holds; NaN is passed over.
        fs: The rate given, Hz.

    Raises:
        RecordingError: They contradict each other, or the column jumps.
    """
    rows = np.flatnonzero(np.isfinite(times))
    if rows.size < 2:
        return
    first, last = rows[0], rows[-1]
    step = (times[last] - times[first]) / (last - first)
    rising = np.diff(times[rows])
    rising = rising[rising > 0]
    # Times printed to whole seconds are right to a second.
    resolution = rising.min() if rising.size else 0.0
    if column.unit is None and step == 1:
        return  # It may as well count samples.
    units = [column.unit] if column.unit else ["s", "ms", "us", "ns"]
    rates = {
        unit: 1 / (step * _SECONDS_PER_UNIT[unit.lower()]) if step > 0 else 0.0 for unit in units
    }
    title = column.name + (f" ({column.unit})" if column.unit else "")
    tolerance = max(_RATE_TOLERANCE, resolution / abs(times[last] - times[first] or 1.0))
    if not any(abs(rate / fs - 1) <= tolerance for rate in rates.values()):
        unit, rate = min(rates.items(), key=lambda item: abs(np.log(max(item[1], 1e-9) / fs)))
        raise RecordingError(
            f"{path}: its column {title!r} goes up by {step:.6g} a sample, {rate:.6g} Hz if in "
            f"{unit}, but the rate given is {fs:g} Hz (--fs); correct the one that is wrong"
        )
    off = np.abs((times[rows] - times[first]) / step - (rows - first)) / fs
    if off.max() > _LARGEST_GAP_S + resolution / step / fs:
        row = int(rows[off.argmax()])
        raise RecordingError(
            f"{path}: its column {title!r} is not even: sample {row} is {off.max():.3g} s from "
            f"where {fs:g} Hz puts it; cut the file at its gaps, or fill them with empty cells"
        )


def _could_be_lead(name: str) -> bool:
    key = name.strip().lower()
    return (is_ecg(key) or is_unnamed(key)) and not key.endswith("id")


def why_table(path: str) -> str | None:
    """Returns why a CSV or TSV file is a table of something else than samples, None if it is not.

    Only its beginning is read: samples are numbers in columns that are leads by their names, where
    they have names.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(_BYTES_OF_A_TABLE)
    except OSError:
        return None
    lines = content.decode("utf-8-sig", "replace").splitlines()
    if len(content) == _BYTES_OF_A_TABLE:  # the last line is cut
        lines = lines[:-1]
    rows = split_cells(path, lines[:_LINES_OF_A_TABLE])
    if not rows:
        return None
    named = not all(map(is_number, rows[0]))
    titles = [parse_title(cell) for cell in rows[0]]
    columns = [i for i, title in enumerate(titles) if not named or title.kind == "lead"]
    units = named and any(map(is_line_of_units, rows[1:2]))
    for row in rows[named + units :]:
        for i in columns:
            if i < len(row) and not is_number(row[i]):
                return f"it holds {row[i][:40]!r}, which is no sample"
    names = [titles[i].name for i in columns]
    if named and not any(map(_could_be_lead, names)):
        return f"none of its columns ({', '.join(names)[:200]}) is a lead by its name"
    return None
