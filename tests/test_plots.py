"""Pictures, looked at pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from minicnn import plots


def bluish_and_reddish(path):
    red, _, blue = np.moveaxis(np.asarray(Image.open(path).convert("RGB")).astype(int), 2, 0)
    return blue - red > 60, red - blue > 60


needs_matplotlib = pytest.mark.skipif(not plots.available(), reason="matplotlib is not installed")


@needs_matplotlib
@pytest.mark.parametrize("classes", [3, 10, 100])
def test_a_cell_of_the_confusion_matrix_is_at_its_class_and_guess(tmp_path, classes):
    """Every image of class i is taken for class i + 1, of the last for the first."""
    counts = 80 * np.roll(np.eye(classes, dtype=int), 1, axis=1)
    plots.confusion(counts, [f"class {i}" for i in range(classes)], tmp_path / "x.png", "title")
    dark, _ = bluish_and_reddish(tmp_path / "x.png")
    columns = np.flatnonzero(dark.any(axis=0))
    columns = columns[: np.flatnonzero(np.diff(columns) > 10)[0]]  # behind a gap stands the bar of shades
    rows = np.flatnonzero(dark[:, columns].any(axis=1))
    centres = [edge[0] + (np.arange(classes) + 0.3) * (edge[-1] - edge[0]) / classes for edge in (rows, columns)]
    np.testing.assert_array_equal(dark[np.ix_(*(places.round().astype(int) for places in centres))], counts > 0)


@needs_matplotlib
def test_the_ladder_has_a_bar_for_each_rung_and_a_line_for_the_rival(tmp_path):
    rates = {"naive": 1.0, "shared": 4.0, "tensor cores": 10.0}
    plots.ladder(rates, {"rival": 8.0}, tmp_path / "ladder.png", "title", "TFLOP/s")
    bars, line = bluish_and_reddish(tmp_path / "ladder.png")
    rows = np.flatnonzero(bars.any(axis=1))
    lengths = [bars[run[len(run) // 2]].sum() for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)]
    np.testing.assert_allclose(np.array(lengths) / max(lengths), [0.1, 0.4, 1.0], atol=0.01)
    left = np.flatnonzero(bars.any(axis=0))[0]
    at = np.flatnonzero(line[: rows[-1]].sum(axis=0) > 30)
    assert (at[0] - left) / max(lengths) == pytest.approx(0.8, abs=0.01)
