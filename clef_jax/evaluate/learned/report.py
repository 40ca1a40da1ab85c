"""The figures of `learned`, in sentences and as a picture."""

import pathlib

import numpy as np
from matplotlib.figure import Figure as Picture

from clef_jax.evaluate.learned.figures import LABEL_SHARES, REPRESENTATIONS, Figure, Learned
from clef_jax.evaluate.learned.intervals import Estimate
from clef_jax.evaluate.learned.tasks import TASKS
from clef_jax.train.plots import save_figure

QUESTIONS = {task.name: task.title for task in TASKS} | {
    "view": "Second noisy view of the same recording",
    "visit": "Same patient's recording of another visit",
}
# A probe of few labels may be arbitrarily worse than the mean; below this it is drawn no further.
_LOWEST_R2 = -0.5
_COLOURS = {"plain": "tab:orange", "untrained": "darkgrey", "pretrained": "tab:blue"}


def sentences(learned: Learned) -> list[str]:
    """Returns what each figure means, a sentence for each, after one on whom they are about."""
    whom = f"Lead {learned.lead} of {learned.patients:,} patients"
    if learned.patients < learned.of_patients:
        whom += f", chosen at random among {learned.of_patients:,}"
    opening = (
        f"{whom}, {learned.held_out:,} of them held out; in brackets 95 % intervals over the "
        "held-out patients."
    )
    return [opening, *map(_sentence, learned.figures), _rank_sentence(learned)]


def _sentence(figure: Figure) -> str:
    what = _question(figure)
    if figure.too_few:
        return f"{what}: {figure.too_few}."
    values = ", ".join(f"{name} {_bracketed(e)}" for name, e in figure.estimates.items())
    opening = f"{what}, {figure.metric} on {figure.tested:,} patients: {values}."
    chance = {"R²": 0, "AUC": 0.5}.get(figure.metric, 1 / figure.tested)
    if all(e.low <= chance for e in figure.estimates.values()):
        return f"{opening} None is above chance ({chance:.2g}) for certain, so this tells nothing."
    untrained, plain = figure.gains["untrained"], figure.gains["plain"]
    return (
        f"{opening} Pretraining "
        f"{_verdict(untrained)} ({_signed(untrained)}); its encoder {_beside(plain)} plain "
        f"measurements ({_signed(plain)})."
    )


def _question(figure: Figure) -> str:
    if figure.labels is None:
        return f"{QUESTIONS[figure.name]} found among all patients'"
    return (
        f"{QUESTIONS[figure.name]} from {figure.labels:.0%} of the labels "
        f"({figure.learnt_from:,} patients)"
    )


def _by_sign(gain: Estimate, *, above: str, below: str, neither: str) -> str:
    """Returns the words for a gain whose interval lies above zero, below it, or holds it."""
    return above if gain.low > 0 else below if gain.high < 0 else neither


def _verdict(gain: Estimate) -> str:
    neither = "makes no difference that so few patients could show"
    return _by_sign(gain, above="helps", below="harms", neither=neither)


def _beside(gain: Estimate) -> str:
    neither = "is not to be told apart from"
    return _by_sign(gain, above="says more than", below="says less than", neither=neither)


def _bracketed(e: Estimate) -> str:
    return f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"


def _signed(e: Estimate) -> str:
    return f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"


def _rank_sentence(learned: Learned) -> str:
    if learned.held_out < 2:
        return f"Effective rank: too few ({learned.held_out} patients) to tell."
    ranks = learned.effective_rank
    return (
        f"The pretrained embeddings of {learned.held_out:,} patients vary along "
        f"{ranks['pretrained']:.1f} of {learned.dimensions['pretrained']} directions (effective "
        f"rank), the untrained ones along {ranks['untrained']:.1f}; 1 would be a collapse."
    )


def plot_learned(learned: Learned, path: str | pathlib.Path) -> None:
    """Draws the figures with their intervals, the three representations side by side."""
    columns = (len(QUESTIONS) + 2) // 2  # The last panel is the rank's.
    picture = Picture(figsize=(4 * columns, 6.5), layout="constrained")
    panels = picture.subplots(2, columns)
    for axes, name in zip(panels.flat, QUESTIONS, strict=False):
        figures = [figure for figure in learned.figures if figure.name == name]
        if figures[0].labels is None:
            _draw_retrieval(axes, figures[0])
        else:
            _draw_probes(axes, figures)
        axes.set_title(QUESTIONS[name], fontsize=10)
    for unused in panels.flat[len(QUESTIONS) : -1]:
        unused.set_axis_off()
    axes = panels.flat[-1]
    bars = axes.bar(
        list(learned.effective_rank),
        list(learned.effective_rank.values()),
        color=[_COLOURS[name] for name in learned.effective_rank],
    )
    axes.bar_label(bars, fmt="%.1f")
    axes.margins(y=0.15)
    axes.set_title(
        f"Effective rank of {learned.held_out:,} patients, of {learned.dimensions['pretrained']}",
        fontsize=10,
    )
    panels.flat[0].legend(frameon=False, fontsize=8)
    save_figure(picture, path)


def _draw_probes(axes, figures):
    axes.axhline(0.5 if figures[0].metric == "AUC" else 0, color="black", linewidth=0.5)
    for shift, name in zip((-0.15, 0, 0.15), REPRESENTATIONS, strict=True):
        known = [
            (x, figure.estimates[name]) for x, figure in enumerate(figures) if figure.estimates
        ]
        places = [x + shift for x, _ in known]
        _draw_estimates(axes, places, [e for _, e in known], name)
    if figures[0].metric == "R²" and axes.get_ylim()[0] < _LOWEST_R2:
        axes.set_ylim(_LOWEST_R2, None)
    for x, figure in enumerate(figures):
        if figure.too_few:
            axes.text(x, 0.5, "too few", ha="center", transform=axes.get_xaxis_transform())
    labels = [
        f"{share:.0%}\n{figure.learnt_from:,} patients"
        for share, figure in zip(LABEL_SHARES, figures, strict=True)
    ]
    axes.set_xticks(range(len(figures)), labels)
    axes.set(xlim=(-0.5, len(figures) - 0.5), ylabel=f"{figures[0].metric}, tested on "
             f"{figures[0].tested:,}")  # fmt: skip


def _draw_retrieval(axes, figure):
    axes.set(ylim=(0, 1.05), ylabel=f"recall at 1 among {figure.tested:,}")
    axes.set_xticks(range(len(REPRESENTATIONS)), REPRESENTATIONS)
    axes.set_xlim(-0.5, len(REPRESENTATIONS) - 0.5)
    if figure.too_few:
        axes.text(0.5, 0.5, "too few", ha="center", transform=axes.transAxes)
        return
    for x, name in enumerate(REPRESENTATIONS):
        _draw_estimates(axes, [x], [figure.estimates[name]], name)


def _draw_estimates(axes, places, estimates, name):
    value, low, high = np.array(estimates).reshape(-1, 3).T
    # A mean over draws may lie outside their quantiles by rounding.
    errors = np.maximum([value - low, high - value], 0)
    axes.errorbar(places, value, errors, fmt="o", capsize=3, color=_COLOURS[name], label=name)
