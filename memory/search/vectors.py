"""Vectors: 32-bit floats of length 1."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float32]


def unit(vectors: ArrayLike) -> Vector:
    """Return `vectors`, of shape (d,) or (n, d), scaled to length 1 as float32. Zero vectors stay zero."""
    exact = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(exact, axis=-1, keepdims=True)
    scaled: Vector = (exact / np.where(length > 0, length, 1.0)).astype(np.float32)
    return scaled
