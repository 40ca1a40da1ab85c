"""The encoder's interface: arrays or files in, embeddings out."""

import collections
import functools
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from clef_jax.data.recordings import OpenRecording, open_recording
from clef_jax.data.recordings.arrays import array_recording
from clef_jax.data.recordings.units import unit_doubt
from clef_jax.data.signals.quality import QualityFlag
from clef_jax.data.signals.spec import CLEF_V2, PreprocessingSpec
from clef_jax.data.windows.cut import (
    WindowSettings,
    choose_leads_of,
    read_windows,
    require_windows,
)
from clef_jax.inference.embeddings import Embeddings, QualityWarning, without_unusable
from clef_jax.inference.fingerprint import fingerprint
from clef_jax.inference.forward import Forward, apply, concatenate
from clef_jax.models import EncoderConfig, build_model

# Windows read at once of a long recording: 1.3 MB of ten-second windows.
_WINDOWS_PER_BLOCK = 64


class Encoder:
    """An encoder with its weights, ready to embed.

    Attributes:
        config: Shape of the encoder.
        preprocessing: What its inputs need.
        meta: The checkpoint's record: provenance, versions, fingerprint.
        classifier: {"kernel": [D, classes], "bias": [classes]} as in ECGFounder, or None.
        model: The Linen module; `model.apply({"params": params}, x)`.
    """

    def __init__(
        self,
        config: EncoderConfig,
        params: Any,
        *,
        preprocessing: PreprocessingSpec = CLEF_V2,
        meta: dict | None = None,
        classifier: dict[str, np.ndarray] | None = None,
        dtype: DTypeLike = jnp.float32,
    ):
        self.config = config
        self._params = jax.device_put(params)
        self.preprocessing = preprocessing
        self.meta = meta or {}
        self.classifier = classifier
        self.model = build_model(config, dtype=dtype)

    def __repr__(self) -> str:
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        return (
            f"<Encoder {self.config.name}: {count:,} parameters, "
            f"{self.config.embedding_dim}-d embedding>"
        )

    @property
    def params(self) -> Any:
        """Its parameters, a nested dict of float32 arrays."""
        return self._params

    @functools.cached_property
    def forward(self) -> Forward:
        """The encoder on all of this process's devices, for z-scored rows of the host."""
        return Forward(self.model, self.params)

    @functools.cached_property
    def fingerprint(self) -> list[float]:
        """The 16 numbers of `inference.fingerprint`, computed now, not read from the checkpoint."""
        return fingerprint(self.config, self.params)

    def apply(
        self, x: ArrayLike, layers: Sequence[str] | None = None
    ) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Embeds inputs that are preprocessed and normalised already; differentiable in `x`.

        It is a part of the program that calls it, of its jit, gradient or shard_map, and shares
        nothing among devices by itself; `forward` does. The numbers are the same.

        Args:
            x: `[N, T]`, or `[N, T, C]` for an encoder of C leads.
            layers: Names of stages, "stage0" and so on, whose outputs are wanted as well.

        Returns:
            Embeddings `[N, D]`; with `layers` also a dict of `[N, T_s, width]`.

        Raises:
            ValueError: The shape of `x` or a stage's name is wrong.

        Example:
            >>> from clef_jax import load_encoder
            >>> encoder = load_encoder("weights/clef_small")
            >>> encoder.apply(jnp.zeros((3, 5000))).shape
            (3, 256)
        """
        x = jnp.asarray(x)
        if x.ndim == 2:
            x = x[:, :, None]
        if x.ndim != 3 or x.shape[2] != self.config.in_channels:
            raise ValueError(
                f"x has shape {x.shape}; expected [N, T] or [N, T, {self.config.in_channels}]"
            )
        outputs = apply(self.model, self._layers(layers), self.params, x)
        return outputs.embedding if layers is None else tuple(outputs)

    def embed(
        self,
        signal_mv: ArrayLike,
        fs: float,
        lead: str | Sequence[str] | None = None,
        *,
        leads: Sequence[str] | None = None,
        window_s: float | None = None,
        stride_s: float | None = None,
        pad: bool = False,
        mean: bool = False,
        layers: Sequence[str] | None = None,
    ) -> np.ndarray | tuple[np.ndarray, dict[str, np.ndarray]]:
        """Embeds a signal of any rate and length.

        Args:
            signal_mv: `[T]`, or `[leads, T]`, mV; NaN marks missing samples.
            fs: Sampling rate, Hz.
            lead: Which lead to embed, or several in order of preference; lead I by default. For an
                encoder of several leads, all of them in its order.
            leads: Names of the rows of a `[leads, T]` signal; the 12 standard leads in their usual
                order by default, if there are 12.
            window_s: Length of a window, seconds; that of `preprocessing` by default.
            stride_s: From one window's start to the next; `window_s` by default.
            pad: Whether a signal shorter than one window is padded with zeros after z-scoring.
            mean: Whether to return the mean over usable windows as one row.
            layers: Names of stages whose outputs are wanted as well.

        Returns:
            float32 `[windows, D]`, or `[1, D]` with `mean`; with `layers` also a dict of
            `[windows, T_s, width]`. Windows without usable signal are NaN and warned about.

        Raises:
            RecordingError: The signal is too short or lacks the lead.

        Example:
            >>> from clef_jax import load_encoder
            >>> from clef_jax.data.recordings import read_recording
            >>> encoder = load_encoder("weights/clef_small")
            >>> recording = read_recording("ecg.hea", leads=["I", "II"])  # 25 s at 250 Hz.
            >>> encoder.embed(recording.signal_mv, recording.fs, "II", leads=["I", "II"]).shape
            (2, 256)
        """
        settings = self._settings(lead, window_s, stride_s, pad)
        recording = array_recording(np.asarray(signal_mv), fs, lead, leads)
        found = self._embed(recording, settings, layers)
        faults = collections.Counter(flag for flag in found.quality if flag != QualityFlag.OK)
        faults.pop(QualityFlag.PADDED, None)
        if faults:
            counts = ", ".join(f"{flag} {count}" for flag, count in faults.items())
            doubts = (unit_doubt(row, fs) for row in np.atleast_2d(signal_mv))
            doubt = next(filter(None, doubts), None)
            warnings.warn(
                f"{faults.total()} of {len(found.quality)} windows are no clean ECG: {counts}; "
                "embed_windows returns the flag of each"
                + (f"; expected mV, but {doubt}: convert it" if doubt else ""),
                QualityWarning,
                stacklevel=2,
            )
        embedding = found.mean() if mean else found.embedding
        return embedding if layers is None else (embedding, found.layers)

    def embed_windows(
        self,
        signal_mv: ArrayLike,
        fs: float,
        lead: str | Sequence[str] | None = None,
        *,
        leads: Sequence[str] | None = None,
        window_s: float | None = None,
        stride_s: float | None = None,
        pad: bool = False,
        layers: Sequence[str] | None = None,
    ) -> Embeddings:
        """Embeds like `embed`, and returns each window's start and quality flag with it."""
        settings = self._settings(lead, window_s, stride_s, pad)
        recording = array_recording(np.asarray(signal_mv), fs, lead, leads)
        return self._embed(recording, settings, layers)

    def embed_recording(
        self,
        path: str | os.PathLike,
        leads: str | Sequence[str] | None = None,
        *,
        fs: float | None = None,
        lead_names: Sequence[str] | None = None,
        units: str | None = None,
        window_s: float | None = None,
        stride_s: float | None = None,
        pad: bool = False,
        layers: Sequence[str] | None = None,
    ) -> Embeddings:
        """Embeds a file, reading it part by part.

        Args:
            path: WFDB, EDF, DICOM, CSV, TSV, NPY or MATLAB; see `data.recordings.formats`.
            leads: Leads in order of preference, of which the first found is embedded; "all" for
                every lead; lead I by default. For an encoder of several leads, all of them.
            fs: Sampling rate of CSV, TSV, NPY and headerless MATLAB files, Hz.
            lead_names: Names of the leads of such files, in place of their own.
            units: Units of such files that name none: mV, uV or V; mV by default.
            window_s: Length of a window, seconds; that of `preprocessing` by default.
            stride_s: From one window's start to the next; `window_s` by default.
            pad: Whether a recording shorter than one window is padded.
            layers: Names of stages whose outputs are wanted as well.

        Raises:
            RecordingError: The file is damaged, too short or lacks the leads.
        """
        settings = self._settings(leads, window_s, stride_s, pad)
        recording = open_recording(path, fs=fs, lead_names=lead_names, units=units)
        return self._embed(recording, settings, layers)

    def classify(self, embedding: ArrayLike) -> jax.Array:
        """Returns the logits `[N, classes]` that the checkpoint's classifier gives embeddings.

        Raises:
            ValueError: The checkpoint holds no classifier.
        """
        if self.classifier is None:
            raise ValueError("this checkpoint holds no classifier; ECGFounder's do, CLEF's do not")
        return jnp.asarray(embedding) @ self.classifier["kernel"] + self.classifier["bias"][None]

    def _layers(self, layers: Sequence[str] | None) -> tuple[str, ...]:
        known = self.config.layers
        unknown = [name for name in layers or () if name not in known]
        if unknown:
            raise ValueError(
                f"unknown layer {', '.join(unknown)}; {self.config.name} has {', '.join(known)}"
            )
        return tuple(layers or ())

    def _settings(
        self,
        leads: str | Sequence[str] | None,
        window_s: float | None,
        stride_s: float | None,
        pad: bool,
    ) -> WindowSettings:
        return WindowSettings(
            preprocessing=self.preprocessing,
            leads=(leads,) if isinstance(leads, str) else tuple(leads or ()) or None,
            window_s=window_s,
            stride_s=stride_s,
            pad=pad,
            channels=self.config.in_channels,
        )

    def _embed(
        self, recording: OpenRecording, settings: WindowSettings, layers: Sequence[str] | None
    ) -> Embeddings:
        names = self._layers(layers)
        header = recording.header
        chosen = choose_leads_of(recording, settings)
        starts = require_windows(header.samples, header.fs, settings, header.path)
        step = max(1, _WINDOWS_PER_BLOCK // len(chosen))
        lead: list[str] = []
        start_s: list[np.ndarray] = []
        flags: list[QualityFlag] = []

        def inputs() -> Iterator[np.ndarray]:
            for first in range(0, len(starts), step):
                windows = read_windows(recording, chosen, starts[first : first + step], settings)
                lead.extend(windows.lead)
                start_s.append(windows.start_s)
                flags.extend(windows.quality)
                yield windows.x

        outputs = concatenate(list(self.forward.stream(inputs(), layers=names)))
        return Embeddings(
            embedding=without_unusable(outputs.embedding, flags),
            lead=lead,
            start_s=np.concatenate(start_s),
            quality=flags,
            fs=header.fs,
            layers=outputs.layers,
        )
