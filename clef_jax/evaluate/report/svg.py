"""Matplotlib figures as small pieces of SVG that stand in a page among others."""

import contextlib
import html
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Of a page's text beside it; mathematics would be read into names with dollar signs.
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "path.simplify_threshold": 0.5,
}
_DOTS_PER_INCH = 110
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@contextlib.contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """Gives a figure of so many inches, drawn in the page's style."""
    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, title: str) -> str:
    """Returns a figure as an `<svg>` element that has a title and shares no ids with others."""
    buffer = io.StringIO()
    salt = {"svg.hashsalt": title}
    with matplotlib.rc_context(_STYLE | salt), warnings.catch_warnings():
        # Letters are the browser's, which has more of them than the font that measures them here.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing", category=UserWarning)
        figure.savefig(buffer, format="svg", dpi=_DOTS_PER_INCH, metadata=_NO_METADATA)
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    return _alone(drawn, title)


def _alone(drawn: str, title: str) -> str:
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', drawn))
    drawn = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", drawn)
    drawn = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", drawn)
    drawn = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"\s*\n\s*", "\n", drawn)
    label = html.escape(title, quote=True)
    opening = re.sub(r'(width|height)="[^"]*pt" ?', "", drawn[: drawn.index(">")])
    return f'{opening} role="img" aria-label="{label}"{drawn[drawn.index(">") :]}'
