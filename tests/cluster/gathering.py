"""One of several processes that gather numbers from each other, until one of them does not."""

import sys
import time

from clef_jax.cluster.enter import in_place
from clef_jax.errors import ClefError


def gather(coordinator, processes, process, how):
    with in_place(coordinator, int(processes), int(process)):
        import numpy as np
        from jax.experimental.multihost_utils import process_allgather

        print("joined", flush=True)
        for turn in range(10**9):
            process_allgather(np.ones(3))
            if turn == 3:
                print("gathering", flush=True)
                if how == "wait":
                    time.sleep(1000)
                if how == "fail":
                    raise ClefError("this one fails")
                if how == "end":
                    return


if __name__ == "__main__":
    try:
        gather(*sys.argv[1:])
    except ClefError as error:
        print(f"gathering: {error}", file=sys.stderr)
        sys.exit(1)
