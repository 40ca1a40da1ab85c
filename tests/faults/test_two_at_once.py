"""Two commands at once on one output: the second is refused, and told of the first."""

import re
import shutil

import pytest

from tests.faults.test_no_room import COMMANDS, argv_of, ensure_needed, inputs, run  # noqa: F401
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", COMMANDS)
def test_the_second_is_refused_by_name(command, inputs, run, tmp_path):  # noqa: F811
    ensure_needed(command, inputs, run)
    out, go = tmp_path / "out", tmp_path / "go"
    out.mkdir()
    argv = argv_of(command, inputs, out)
    # It stops where it would give up its lock.
    run(argv, out, pause=go)
    wait_for(lambda: list(out.rglob("*.holder")) or list(out.rglob(".*.holder")))
    code, printed = run(argv, out)
    assert code == 1 and "Traceback" not in "\n".join(printed), printed
    refused = r"\(process \d+ on .*, since |exists already"
    assert re.search(rf"{re.escape(str(out))}.*({refused})", printed[-1]), printed
    assert len(printed[-1]) < 600
    go.touch()
    code, printed = run(None, out)
    assert code == 0, printed
    shutil.rmtree(out)
