"""Where in the sources an operation comes from: the tables at the head of a compiled program."""

import re
from typing import NamedTuple

_ENTRY = re.compile(r"(\w+)=(\d+)")


class Frame(NamedTuple):
    """A line of a traceback.

    Attributes:
        file: Path.
        function: Qualified name.
    """

    file: str
    function: str


class Frames:
    """The stack frames of a program's text, by the numbers that operations name.

    Args:
        text: From `compiled.as_text()`; one without tables has no frames.
    """

    def __init__(self, text: str):
        self._files = _table(text, "FileNames")
        self._functions = _table(text, "FunctionNames")
        self._locations = _numbered(_table(text, "FileLocations"))
        self._frames = _numbered(_table(text, "StackFrames"))

    def of(self, number: int) -> list[Frame]:
        """Returns the frames of an operation's `stack_frame_id`, the innermost first."""
        found = []
        while frame := self._frames.get(number):
            location = self._locations[frame["file_location_id"]]
            found.append(
                Frame(
                    self._files[location["file_name_id"]].strip('"'),
                    self._functions[location["function_name_id"]].strip('"'),
                )
            )
            # A frame names its parent by one more than the parent's number.
            parent = frame.get("parent_frame_id", 1) - 1
            if parent in (0, number):
                break
            number = parent
        return found


def _table(text: str, name: str) -> dict[int, str]:
    match = re.search(rf"^{name}\n((?:\d+ .*\n)+)", text, re.MULTILINE)
    lines = match[1].splitlines() if match else []
    return {int(number): rest for number, _, rest in (line.partition(" ") for line in lines)}


def _numbered(table: dict[int, str]) -> dict[int, dict[str, int]]:
    return {
        number: {name: int(value) for name, value in _ENTRY.findall(entry)}
        for number, entry in table.items()
    }
