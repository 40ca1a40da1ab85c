r"""Converts weights between the original PyTorch project and clef_jax.

python tools/convert_weights.py --input clef_small.ckpt --out weights/clef_small
python tools/convert_weights.py --to_torch --input weights/clef_small --out clef_small.ckpt
"""

from absl import flags, logging

from clef_jax.cli import tool
from clef_jax.convert import convert_to_folder, export_to_torch, report_lines

_INPUT = flags.DEFINE_string(
    "input", None, "A .ckpt or .pth file; with --to_torch an encoder folder or workdir."
)
_OUT = flags.DEFINE_string("out", None, "The folder to write; with --to_torch a file.")
_TO_TORCH = flags.DEFINE_bool("to_torch", False, "Write a file that the original project loads.")
flags.mark_flags_as_required(["input", "out"])


def main() -> None:
    """Converts in the direction asked for and prints the report."""
    logging.set_verbosity(logging.WARNING)
    if _TO_TORCH.value:
        config = export_to_torch(_INPUT.value, _OUT.value)
        print(f"{_OUT.value}: {config.name}, for the original project with strict=True")
        return
    config, report, meta = convert_to_folder(_INPUT.value, _OUT.value)
    print("\n".join(report_lines(config, report, meta)))
    print(f"written: {_OUT.value}")


if __name__ == "__main__":
    tool.run(main)
