"""A piece of an evaluation: what one model, trained so, predicts of a question."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from clef_jax.evaluate.asking.question import Question
from clef_jax.evaluate.asking.results import SLOT, Parts, digest, predictions_table
from clef_jax.evaluate.windows.inputs import Unread


@dataclasses.dataclass(frozen=True)
class Piece:
    """Predictions in their slot, written with the key of all that determines them.

    Attributes:
        question: What is asked.
        parts: Where the predictions go, as "predictions".
        mode: As results call it.
        model: As results call it.
        fraction: Share of the training patients learned from.
        seed: Of what is random about it.
        weights: SHA-256 of an encoder's parameters; "" without.
        reading: How windows are read: a hash; "" where they are not.
        method: JSON record of how it is learned.
    """

    question: Question
    parts: Parts
    mode: str
    model: str
    fraction: float
    seed: int
    weights: str
    reading: str
    method: dict[str, Any]

    @property
    def slot(self) -> dict[str, Any]:
        """What tells it from other pieces, by `results.SLOT`."""
        asked = (self.question.info.name, self.question.preset, self.question.lead)
        how = (self.mode, self.model, self.fraction, self.seed)
        return dict(zip(SLOT, (*asked, *how), strict=True))

    def key(self, unread: Sequence[Unread]) -> str:
        """Returns the hash of all that determines it, what could not be read included."""
        examples = self.question.examples
        decided = {
            "examples": [examples.split_hash, examples.label_hash, os.path.abspath(examples.root)],
            "people": examples.people_hash,
            "hints": dataclasses.asdict(examples.hints),
            "names": self.question.names,
            "kind": self.question.info.kind,
            "weights": self.weights,
            "reading": self.reading,
            "method": self.method,
        }
        return digest({**decided, "unread": sorted(one.example for one in unread)})

    def is_final(self) -> bool:
        """Whether it is written, and no file is left out of it that may have been mended since."""
        done = self.parts.about("predictions", self.slot) or {}
        left_out = [Unread(*one) for one in done.get("unread", ())]
        return all(one.readable for one in left_out) and done.get("key") == self.key(left_out)

    def is_written(self, unread: Sequence[Unread]) -> bool:
        """Whether it is written with just these left out."""
        done = self.parts.about("predictions", self.slot) or {}
        return done.get("key") == self.key(unread)

    def write(
        self,
        targets: np.ndarray,
        scores: np.ndarray,
        predicted: np.ndarray,
        unread: Sequence[Unread],
    ) -> None:
        """Writes it.

        Args:
            targets: `[n, labels]` of all examples.
            scores: Likewise; NaN all down a label that could not be learned.
            predicted: bool `[n]`; others are left out.
            unread: Of whose windows there was nothing to work on.
        """
        examples = self.question.examples
        made_of = {
            "fingerprint": self.weights,
            "preparation": self.reading,
            "split_hash": examples.split_hash,
        }
        table = predictions_table(self.question, targets, scores, predicted, self.slot | made_of)
        about = {"key": self.key(unread), "label_hash": examples.label_hash, "unread": unread}
        self.parts.write("predictions", self.slot, table, about | made_of)
