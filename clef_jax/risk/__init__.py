"""Ten-year cardiovascular risk of the ESC's SCORE2 family."""

from clef_jax.risk.score2 import REGIONS, score2, score2_diabetes, score2_op

__all__ = ["REGIONS", "score2", "score2_diabetes", "score2_op"]
