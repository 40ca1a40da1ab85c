"""The losses over whole 2N x 2N matrices in float64 numpy, straight from their formulas.

Rows 2i and 2i + 1 of the embeddings are the views of subject i.
"""

import numpy as np


def cosine_similarity(z):
    norm = np.sqrt(np.maximum((z**2).sum(1, keepdims=True), 1e-12))
    return (z / norm) @ (z / norm).T


def simclr(z, temperature=0.07):
    n = len(z)
    logits = cosine_similarity(z) / temperature
    loss = 0.0
    for i in range(n):
        others = np.delete(logits[i], i)
        loss += np.log(np.exp(others - others.max()).sum()) + others.max() - logits[i, i ^ 1]
    return loss / n


def info_nce(rows, partners, columns, ids, column_ids, temperature):
    """Of rows [n, D] against columns [M, D], of which those of the row's subject do not count."""
    rows, partners, columns = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, partners, columns)
    )
    loss = 0.0
    for row, partner, own in zip(rows, partners, ids, strict=True):
        others = [c for c, whose in zip(columns, column_ids, strict=True) if whose != own]
        positive = np.exp(row @ partner / temperature)
        negatives = sum(np.exp(row @ c / temperature) for c in others)
        loss -= np.log(positive / (positive + negatives))
    return loss / len(rows)


def squared_distance(a, b):
    """Of rows [n, D] once they have unit length."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return ((a - b) ** 2).sum(axis=1)


def dissimilarity(risk, floor, unknown_risk):
    known = np.isfinite(risk)
    values = np.where(known, risk, 0.0 if unknown_risk == "zero" else np.nan)
    n = len(risk)
    q = np.array([[(values[i] - values[k]) ** 2 for k in range(n)] for i in range(n)])
    usable = np.isfinite(q)
    low, high = (q[usable].min(), q[usable].max()) if usable.any() else (0.0, 0.0)
    d = (1 - floor) * (q - low) / (high - low + 1e-6) + floor
    pairs = usable & ~np.eye(n, dtype=bool)
    d[~usable] = d[pairs].mean() if pairs.any() else floor
    np.fill_diagonal(d, 0.0)
    return d


def clef(
    z,
    risk,
    completeness=None,
    *,
    temperature=0.07,
    floor=0.2,
    weighting="softmax",
    completeness_weighting=False,
    unknown_risk="zero",
    combine="mean",
):
    n = len(z)
    s = cosine_similarity(z)
    d = np.repeat(np.repeat(dissimilarity(risk, floor, unknown_risk), 2, 0), 2, 1)
    w = np.exp(d) / np.exp(d).sum(1, keepdims=True) if weighting == "softmax" else d.copy()
    if completeness_weighting:
        c = np.repeat(np.where(np.isfinite(completeness), completeness, 0.0), 2)
        w = w * np.exp(-np.outer(c, c))
    contrastive = 0.0
    for i in range(n):
        partner = i ^ 1
        logits = s[i] / temperature
        e = np.exp(logits - np.delete(logits, i).max())
        negatives = [k for k in range(n) if k not in (i, partner)]
        denominator = e[partner] + (w[i, negatives] * e[negatives]).sum() + 1e-8
        contrastive -= np.log(e[partner] / denominator)
    contrastive /= n
    scaled = (s - s.min()) / (s.max() - s.min() + 1e-6)
    mismatch = np.mean((scaled - (1 - d)) ** 2)
    total = contrastive + mismatch
    return total / 2 if combine == "mean" else total


def alignment_and_uniformity(z):
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    alignment = np.mean([((unit[i] - unit[i + 1]) ** 2).sum() for i in range(0, len(z), 2)])
    near = [
        np.exp(-2 * ((unit[i] - unit[k]) ** 2).sum())
        for i in range(len(z))
        for k in range(len(z))
        if i // 2 != k // 2
    ]
    return alignment, np.log(np.mean(near))


def finite_differences(function, z, step=1e-6):
    gradient = np.zeros_like(z)
    for index in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient
