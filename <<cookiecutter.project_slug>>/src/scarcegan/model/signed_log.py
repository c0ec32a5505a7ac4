"""Signed logarithm of numpy arrays. The TensorFlow form of it is in preprocessing.py."""

import numpy as np
from numpy.typing import NDArray


def signed_log(values: NDArray) -> NDArray:
    """sign(x) log(1 + |x|) of each value, float64, in the shape of `values`; NaN stays NaN.

    It moves large values of either sign closer to 0, and keeps the sign and 0.
    """
    wide = np.asarray(values, np.float64)
    return np.sign(wide) * np.log1p(np.abs(wide))
