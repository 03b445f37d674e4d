"""Type aliases for NumPy arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

Doubles = NDArray[np.float64]

Positions = NDArray[np.intp]
Numbers = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
