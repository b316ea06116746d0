"""The one table: how far a result may stand from its reference, by dtype of the computation.

Kernels accumulate in float32 over at most a few thousand terms in the tests; an op that needs another bound passes it
with the reason in its test.
"""

import numpy as np

TOLERANCES = {"float64": {"rtol": 1e-12, "atol": 1e-12}, "float32": {"rtol": 2e-5, "atol": 2e-6}}


def assert_close(got, expected, *, what="", rtol=None, atol=None):
    """Element by element; NaN and infinities must stand in the same places. Names the worst index."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    bound = TOLERANCES[got.dtype.name]
    rtol, atol = bound["rtol"] if rtol is None else rtol, bound["atol"] if atol is None else atol
    special = ~np.isfinite(expected)
    assert np.array_equal(got[special], expected[special], equal_nan=True), f"{what}: NaN or infinity in other places"
    assert np.isfinite(got[~special]).all(), f"{what}: NaN or infinity where {expected[~special].shape} are finite"
    with np.errstate(invalid="ignore"):
        excess = np.where(special, -1.0, np.abs(got.astype(np.float64) - expected) - (atol + rtol * np.abs(expected)))
    if excess.size and excess.max() > 0:
        worst = np.unravel_index(excess.argmax(), excess.shape)
        worst = tuple(int(i) for i in worst)
        raise AssertionError(
            f"{what}: at {worst} got {got[worst]:.9g}, expected {expected[worst]:.9g} (rtol {rtol:g}, atol {atol:g})"
        )
