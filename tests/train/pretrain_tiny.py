"""tools/pretrain.py with a tiny encoder in the place of clef_small, for tests that kill it.

SECONDS_A_READ of the environment make a host whose shards come slowly.
"""

import os
import pathlib
import runpy
import sys
import time

if __name__ == "__main__":
    from clef_jax.models import registry
    from tests.train.runs import TINY

    registry._CONFIGS["clef_small"] = TINY
    if seconds := os.environ.get("SECONDS_A_READ"):
        from clef_jax.data.shards.store import ShardSet

        read = ShardSet.read

        def read_slowly(shards, records, slots):
            time.sleep(float(seconds))
            return read(shards, records, slots)

        ShardSet.read = read_slowly
    tool = pathlib.Path(__file__).parents[2] / "tools" / "pretrain.py"
    sys.argv[0] = str(tool)
    runpy.run_path(str(tool), run_name="__main__")
