"""What the report shows of each benchmark: tables, and how they are drawn."""

import dataclasses
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from clef_jax.models import list_models

Row = dict[str, Any]

# Colours that differ in lightness too.
_COLOURS = ("#4477aa", "#ddaa33", "#bb5566", "#999999")


def _bars(axes: Axes, rows: list[Row], names: list[str], series: dict[str, str]) -> None:
    """Draws a group of horizontal bars for each row; `series` maps fields to their labels."""
    height = 0.8 / len(series)
    for i, (field, label) in enumerate(series.items()):
        places = [place + i * height for place in range(len(rows))]
        axes.barh(places, [row[field] for row in rows], height, label=label, color=_COLOURS[i])
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(rows))], names, fontsize="small")
    axes.invert_yaxis()
    if len(series) > 1:
        axes.legend(frameon=False, fontsize="small")


def _plot_ratio(axes: Axes, rows: list[Row]) -> None:
    names = ["{size}, {batch}, {dtype}, {peer}".format(**row) for row in rows]
    _bars(axes, rows, names, {"ratio": "ratio"})
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("PyTorch's duration over ours; above 1 we are faster")


def _plot_shares(axes: Axes, rows: list[Row]) -> None:
    names = ["{size}, {batch}, {dtype}".format(**row) + ", remat" * row["remat"] for row in rows]
    _bars(axes, rows, names, {"mfu": "MFU", "roofline_share": "roofline"})
    axes.set(xlim=(0, 1), xlabel="share of what the device can do")


def _plot_rates(axes: Axes, rows: list[Row]) -> None:
    names = ["{kind}, {readers}, {cache}".format(**row) for row in rows]
    _bars(axes, rows, names, {"records_per_s": ""})
    axes.set(xscale="log", xlabel="records/s", xlim=(1, None))


def _plot_loss(axes: Axes, rows: list[Row]) -> None:
    rows = sorted(rows, key=lambda row: row["batch"])
    batches = [row["batch"] for row in rows]
    for i, (field, label) in enumerate(
        {"whole_matrix_mb": "one whole 2N × 2N matrix", "temporary_mb": "temporaries"}.items()
    ):
        axes.plot(batches, [row[field] for row in rows], "o-", label=label, color=_COLOURS[i])
    axes.set(xscale="log", yscale="log", xlabel="batch N", ylabel="MiB")
    axes.legend(frameon=False)


# Parts of the step, by how the names begin that `benchmarks.aot.places` gives; others are the rest.
_PARTS = ("grouped convolution", "whole block", "pointwise", "activation", "squeeze-excite",
          "pooling", "loss", "augmentation", "optimiser", "collectives")  # fmt: skip
_PART_COLOURS = matplotlib.color_sequences["tab20"]
_SIZES = {name: place for place, name in enumerate(list_models())}


def _plot_parts(axes: Axes, rows: list[Row]) -> None:
    """Draws a bar for each case, its parts one after another."""
    # Beside each other what is compared.
    rows = sorted(rows, key=lambda row: _SIZES[row["size"]])
    names = ["{size}, {batch} on {chips}, {version}, {convolutions}".format(**row) for row in rows]
    left = [0.0] * len(rows)
    for number, part in enumerate((*_PARTS, "")):
        # What begins with a part's name; in the end, the empty one, whatever is left.
        widths = [
            1e3 * row["seconds"] - left[i] if not part else 1e3 * seconds_of(row["by_place"], part)
            for i, row in enumerate(rows)
        ]
        axes.barh(range(len(rows)), widths, left=left, color=_PART_COLOURS[number],
                  label=part or "rest")  # fmt: skip
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(rows)), names, fontsize="small")
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize="x-small", loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_xlabel("ms a step, by the compiler's schedules or modelled: nothing was run")


def seconds_of(by_place: dict[str, dict[str, float]], part: str) -> float:
    """Returns the seconds of all places whose names begin with a part's."""
    return sum(found["seconds"] for name, found in by_place.items() if name.startswith(part))


@dataclasses.dataclass(frozen=True)
class Section:
    """One table of the report, and its plot.

    Attributes:
        benchmark: Whose lines; those of `kinds` only.
        kinds: Values of the field `kind`, None where lines have none.
        title: Heading.
        text: What to know before reading the table.
        case: Fields that tell one case from another, the first columns.
        columns: Headings of the others, and how they are formatted from a line's fields.
        plot: Draws rows, or None.
        drawn: A field that rows must have to be drawn; "" for all.
    """

    benchmark: str
    kinds: tuple[str | None, ...]
    title: str
    text: str
    case: tuple[str, ...]
    columns: dict[str, str]
    plot: Callable[[Axes, list[Row]], None] | None = None
    drawn: str = ""


SECTIONS = (
    Section(
        "vs_torch", (None,), "The step beside PyTorch",
        "The whole pretraining step. *Ratio* is PyTorch's duration over ours, turn by turn: above "
        "1 we are faster. Ours augments and z-scores its views; PyTorch is given finished ones.",
        ("size", "batch", "dtype", "peer"),
        {"ours, s": "{seconds:.3g}", "spread": "{spread:.0%}", "PyTorch, s": "{torch_seconds:.3g}",
         "its spread": "{torch_spread:.0%}", "ratio": "**{ratio:.2f}**",
         "ratio of the best": "{ratio_of_best:.2f}"},
        _plot_ratio,
    ),
    Section(
        "step", ("step",), "The step and the device",
        "*MFU* is the share of the ceiling of matrix products, by the data sheet or as measured; "
        "convolutions count as if computed directly, also where fewer multiplications do. "
        "*Roofline* is the share of the speed that arithmetic and memory allow, layer by layer "
        "(`clef_jax/models/costs.py`), by the measured ceilings of the next table.",
        ("size", "batch", "dtype", "remat"),
        {"records/s": "{records_per_s:,.1f}", "s": "{seconds:.3g}", "spread": "{spread:.0%}",
         "FLOP/s": "{flops_per_s:.3g}", "MFU": "{mfu:.1%}", "MFU of": "{mfu_of}",
         "roofline": "{roofline_share:.1%}", "memory, MiB": "{memory_mb:,.0f}",
         "compiling, s": "{compile_seconds:.0f}"},
        _plot_shares,
    ),
    Section(
        "aot", ("step",), "What the compilers say",
        "No such device was at hand: the product's step was compiled for a description of it "
        "(`benchmarks/bench_aot.py`). *Predicted* is, for TPUs, the time of the compiler's own "
        "schedules or of the bytes in memory, whichever is longer, operation by operation; for "
        "GPUs it is modelled by bytes and FLOPs, a lower bound. *Resolved* is the share of it that "
        "no guess is part of. Memory and FLOPs are one chip's, the largest batch extrapolated. "
        "*Before* is another commit, by the same predictor; *plain* is XLA's own convolutions. "
        "*To autotune* are the distinct products, convolutions and fusions of a GPU's program; of "
        "fusions, none since the step turns their tuner off.",
        ("target", "size", "batch", "chips", "dtype", "remat", "version", "convolutions"),
        {"predicted, s": "{seconds:.3g}", "by": "{predicted_by}", "resolved": "{resolved:.1%}",
         "records/s": "{records_per_s:,.0f}", "MFU": "{mfu:.1%}",
         "FLOPs": "{flops:.3g}", "useful FLOPs": "{useful_flops:.3g}",
         "bytes": "{moved_bytes:.3g}", "operations": "{operations}",
         "memory, bytes": "{memory_bytes:.3g}", "fits": "{fits}",
         "largest batch": "{largest_batch:,}", "compiling, s": "{compile_seconds:.0f}",
         "to autotune": "{autotuned[gemm]} + {autotuned[convolution]} + {autotuned[fusion]}",
         "commit": "{commit}"},
        _plot_parts,
        drawn="by_place",
    ),
    Section(
        "aot", ("failed",), "What did not compile", "The compiler's last word.",
        ("target", "size", "batch", "chips", "dtype", "remat", "version", "convolutions"),
        {"error": "{error}", "commit": "{commit}"},
    ),
    Section(
        "step", ("ceilings",), "Measured ceilings",
        "The best of a large matrix product, and of adding to a large array in place.",
        ("dtype",),
        {"FLOP/s": "{flops_per_s:.3g}", "bytes/s": "{bytes_per_s:.3g}"},
    ),
    Section(
        "input", ("pipeline", "device", "original"), "Input",
        "From shards to the host (*pipeline*) and on to the device (*device*), and the original's "
        "way. Not like for like: ours filters once, when the shards are written, and augments in "
        "the step, on the device; the original reads its files twice, filters, augments and "
        "z-scores for every item. Readers are threads of ours and processes of PyTorch's "
        "DataLoader, where 0 reads in the main process.",
        ("kind", "readers", "cache", "data"),
        {"records/s": "{records_per_s:,.1f}", "spread": "{spread:.0%}",
         "times the original's best": "{times_original:,.1f}"},
        _plot_rates,
    ),
    Section(
        "input", ("fed",), "The step fed from shards",
        "*Waiting* is the share of time in which the device stands still for want of data.",
        ("size", "batch", "dtype", "data"),
        {"records/s": "{records_per_s:,.1f}", "waiting": "{data_wait:.2%}",
         "records/s on one batch, again and again": "{alone_records_per_s:,.1f}"},
    ),
    Section(
        "read", ("batches", "entries", "files"), "Batches beside plain reading",
        "From the same shards of noise: batches of 64 records as a run reads them (*batches*), "
        "pieces as large as a lead at random places (*entries*), and files from one end to the "
        "other (*files*), by so many threads. Bytes of batches are those of both views, though "
        "most second views are copies of the first.",
        ("kind", "readers", "cache"),
        {"GB/s": "{gb_per_s:.2f}", "spread": "{spread:.0%}",
         "GB a CPU second": "{gb_per_cpu_s:.2f}", "share of files": "{share_of_files:.1%}",
         "a CPU second, of files": "{share_of_files_by_cpu:.1%}",
         "share of entries": "{share_of_entries:.1%}",
         "a CPU second, of entries": "{share_of_entries_by_cpu:.1%}"},
    ),
    Section(
        "plan", ("write", "start"), "Planning a set of MIMIC-IV-ECG's size",
        "Tables alone, shards without samples: what `write_shards` does before and after its "
        "workers (*write*), and what each host does at a run's start (*start*), in one thread. "
        "*CPU* are the seconds that it computed, which the clock comes down to on a machine that "
        "has a core to spare. *Peak* is all that the process has held so far, libraries included.",
        ("kind", "part", "records", "patients"),
        {"s": "{seconds:,.1f}", "CPU, s": "{cpu_seconds:,.1f}", "peak, MB": "{peak_mb:,.0f}"},
    ),
    Section(
        "scaling", ("loss",), "The loss and its gradient alone",
        "Embeddings of 256 values, on one device.",
        ("batch",),
        {"s": "{seconds:.3g}", "spread": "{spread:.0%}", "temporaries, MiB": "{temporary_mb:,.1f}",
         "one whole 2N × 2N matrix, MiB": "{whole_matrix_mb:,.1f}"},
        _plot_loss,
    ),
    Section(
        "scaling", ("batch",), "The step at growing batches",
        "Up to what memory, or 30 s a step, allow.",
        ("size", "batch", "dtype"),
        {"records/s": "{records_per_s:,.1f}", "s": "{seconds:.3g}", "spread": "{spread:.0%}",
         "memory, MiB": "{memory_mb:,.0f}"},
    ),
    Section(
        "scaling", ("devices",), "The step on several devices",
        "One global batch. *Operations* are one device's, as a share of those of one device alone. "
        "A CPU's devices are forced ones that share its cores, so that records/s cannot grow.",
        ("size", "batch", "dtype", "devices"),
        {"operations": "{flops_share:.3f}", "records/s": "{records_per_s:,.1f}",
         "spread": "{spread:.0%}"},
    ),
    Section(
        "embed", ("torch", "files", "shards"), "Embedding",
        "From recordings to a table of embeddings, beside a loop over files with wfdb, scipy and "
        "the same encoder in PyTorch.",
        ("size", "kind", "readers", "records"),
        {"records/s": "{records_per_s:,.1f}", "times PyTorch": "{times_torch:.2f}",
         "greatest difference": "{max_difference:.1e}", "computing": "{computing:.0%}"},
    ),
    Section(
        "embed", ("holter",), "Embedding a Holter",
        "The command `clef-jax embed`, its start and compiling included.",
        ("size", "hours", "readers"),
        {"s": "{seconds:,.1f}", "windows/s": "{windows_per_s:,.1f}",
         "peak memory, MB": "{peak_mb_main:,.0f}", "of its readers, MB": "{peak_mb_readers:,.0f}",
         "table, MB": "{table_mb:,.1f}"},
    ),
)  # fmt: skip


def of(benchmark: str, kind: str | None) -> Section:
    """Returns the section that shows a benchmark's lines of a kind.

    Raises:
        ValueError: None does.
    """
    for section in SECTIONS:
        if section.benchmark == benchmark and kind in section.kinds:
            return section
    raise ValueError(f"no section shows {benchmark!r} of kind {kind!r}")
