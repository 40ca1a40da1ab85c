"""tools/pretrain.py with a tiny encoder in the place of clef_small, for tests that kill it."""

import pathlib
import runpy
import sys

if __name__ == "__main__":
    from clef_jax.models import registry
    from tests.train.runs import TINY

    registry._CONFIGS["clef_small"] = TINY
    tool = pathlib.Path(__file__).parents[2] / "tools" / "pretrain.py"
    sys.argv[0] = str(tool)
    runpy.run_path(str(tool), run_name="__main__")
