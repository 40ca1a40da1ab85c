"""What a pretraining costs on many devices: arithmetic from one device's compiled step.

    python -m benchmarks.cluster_costs

Prints the table of docs/clusters.md. A case is a line of `results/aot.jsonl` of one device; on D
devices each computes as many records as there, and the batch is D times as large.
"""

import json
import math

from benchmarks.results import FOLDER
from clef_jax.models import get_config

DEVICES = (8, 64, 256)
RECORDS = 100 * 161_352
# Device, size -> bytes/s in which a device's share of a collective moves: of v5e all links of a
# chip, 1,600 Gbit/s, of H100s NVLink within 8 and a network card of 400 Gbit/s each beyond.
_LINKS = {"v5e:2x2": (200e9, 200e9), "h100": (450e9, 50e9)}
_NAMES = {"v5e:2x2": "v5e", "h100": "H100"}
_SAMPLES = 5000
_VIEW_BYTES = 2 * _SAMPLES
_CASES = [(target, size) for size in ("clef_medium", "clef_large") for target in _NAMES]


def compiled(target: str, size: str) -> dict:
    """Returns the latest line of the step of one device, as the code is now."""
    rows = map(json.loads, (FOLDER / "aot.jsonl").read_text().splitlines())
    *_, row = [
        row for row in rows
        if (row["target"], row["size"], row["chips"]) == (target, size, 1)
        and (row["version"], row["convolutions"]) == ("now", "rule") and row["seconds"]
    ]  # fmt: skip
    return row


def costs(target: str, size: str, devices: int) -> dict[str, float]:
    """Returns what one step and the whole of a run cost.

    All-reduce and all-gather are of rings: a device sends and receives 2 (D - 1) / D, or (D - 1) /
    D, times the bytes of the whole. The gradient of the all-gather is a reduce-scatter as large.
    """
    row, config = compiled(target, size), get_config(size)
    width = config.embedding_dim
    batch, share = row["batch"] * devices, (devices - 1) / devices
    parameters = sum(layer.parameters for layer in config.layer_costs(_SAMPLES))
    gradients = 2 * share * 4 * parameters
    embeddings = 2 * share * 4 * 2 * batch * width
    within, beyond = _LINKS[target]
    moving = (gradients + embeddings) / (within if devices <= 8 else beyond)
    steps = math.ceil(RECORDS / batch)
    return {
        "batch": batch,
        "steps": steps,
        # Of three products of every view with every view, two of them backwards.
        "pairs_flops": 3 * 2 * (2 * batch) ** 2 * width / devices,
        "flops": row["useful_flops"],
        "memory_traffic": row["moved_bytes"],
        "gradients": gradients,
        "embeddings": embeddings,
        "seconds": row["seconds"],
        "moving": moving,
        "input": batch / row["seconds"] * 2 * _VIEW_BYTES,
        "least_minutes": steps * max(row["seconds"], moving) / 60,
        "most_minutes": steps * (row["seconds"] + moving) / 60,
    }


def table() -> str:
    """Returns the table, in Markdown."""
    columns = {
        "batch": "{batch:,}",
        "steps": "{steps:,}",
        "TFLOP": "{tera:.1f} + {pairs:.2g}",
        "GB in memory": "{memory:.1f}",
        "gradients, MB": "{gradients_mb:,.0f}",
        "embeddings, MB": "{embeddings_mb:,.1f}",
        "computing, ms": "{computing_ms:.1f}",
        "moving, ms": "{moving_ms:.1f}",
        "input of all, GB/s": "{input_gb:.1f}",
        "minutes": "{least_minutes:.2g} to {most_minutes:.2g}",
    }
    lines = [["size", "device", "devices", *columns], ["---"] * (3 + len(columns))]
    for target, size in _CASES:
        for devices in DEVICES:
            found = costs(target, size, devices)
            found |= {
                "tera": found["flops"] / 1e12,
                "pairs": found["pairs_flops"] / 1e12,
                "memory": found["memory_traffic"] / 1e9,
                "gradients_mb": found["gradients"] / 1e6,
                "embeddings_mb": found["embeddings"] / 1e6,
                "computing_ms": found["seconds"] * 1e3,
                "moving_ms": found["moving"] * 1e3,
                "input_gb": found["input"] / 1e9,
            }
            row = [template.format(**found) for template in columns.values()]
            lines.append([size, _NAMES[target], str(devices), *row])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(table())
