"""What is made of draws that lack a label."""

import numpy as np

from clef_jax.evaluate.statistics.bootstrap import macro


def test_a_label_that_a_draw_has_none_of_moves_with_the_others_within_its_bounds():
    nan = np.nan
    figures = np.array([[0.6, 0.9, nan], [0.7, nan, nan], [0.9, nan, 0.5], [nan, nan, nan]])
    # Of the others' 0.1 and 0.3 upwards the second label can follow 0.1 at the most.
    np.testing.assert_allclose(macro(figures), [0.75, (0.7 + 1) / 2, (0.9 + 1) / 2, nan])
