"""Files that may grow no further, whichever library writes them: one line, and all as before."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from clef_jax.cli.ending import line_of
from clef_jax.data.shards.format import ShardWriter
from clef_jax.files import replacing, write_json
from clef_jax.tables.files import write_table
from clef_jax.train.plots import save_figure
from tests.limits import no_file_above


def write_figure(path, numbers):
    figure = Figure()
    figure.subplots().imshow(numbers[:10_000].reshape(100, 100))
    save_figure(figure, path)


def write_signals(path, numbers):
    with replacing(path) as temporary:
        writer = ShardWriter(temporary)
        writer.write((1000 * numbers).astype(np.int16).reshape(-1, 5000))
        writer.close()


WRITERS = {
    "a.json": lambda path, numbers: write_json(path, numbers.tolist()),
    "a.csv": lambda path, numbers: write_table(pd.DataFrame({"x": numbers}), path),
    "a.parquet": lambda path, numbers: write_table(pd.DataFrame({"x": numbers}), path),
    "a.png": write_figure,
    "a.array_record": write_signals,
}


@pytest.mark.parametrize("name", WRITERS)
def test_it_is_told_in_a_line_and_the_old_file_stays(name, tmp_path, capfd):
    path, write = tmp_path / name, WRITERS[name]
    numbers = np.random.default_rng(0).normal(size=50_000)
    write(path, numbers)
    before = path.read_bytes()
    with no_file_above(len(before) // 2), pytest.raises(Exception) as raised:
        write(path, -numbers)
    line = line_of(raised.value)
    assert "File too large; what is there already stays as it is: make room" in line
    assert "\n" not in line
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert "Traceback" not in capfd.readouterr().err
