"""Safe reader of a NumPy array in a pickle: it runs no code of the file.

A pickle is a program that names functions and calls them. Here, the few names that NumPy writes for an array refer to
classes that only store their arguments. Every other name is refused before any call. To admit NumPy's own functions by
name is not enough: `numpy.ndarray` takes the bytes of a file for addresses of objects, and the process crashes.
"""

import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import BadInputError

# Integers and floating-point numbers; no objects, strings or records.
_NUMBERS = re.compile(r"[fiu][1248]")
_FAULTS = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Kept:
    """Base of the stand-ins; it has only the attributes of its class, so that no pickle can change a class."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a state for an object without one")


class _NdarrayType(_Kept):
    """Stand-in for the class `numpy.ndarray`, which NumPy names in a pickle; a pickle never needs to call it."""

    __slots__ = ()

    def __init__(self) -> None:
        raise pickle.UnpicklingError("a call of numpy.ndarray")


class _Dtype(_Kept):
    """Stand-in for `numpy.dtype`: the type of numbers in NumPy's spelling, and their byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, align: object = False, copy: object = False) -> None:
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise pickle.UnpicklingError("values that are not numbers")
        self.code = code
        self.order = "|"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a type that NumPy does not write")
        self.order = state[1]

    def real(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array(_Kept):
    """Stand-in for `_reconstruct`, which NumPy calls to create an empty array; the state then fills it."""

    __slots__ = ("values",)

    def __init__(self, kind: object = None, shape: object = None, code: object = None) -> None:
        self.values: NDArray[Any] | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array that NumPy does not write")
        _, shape, dtype, by_column, data = state
        self.values = _filled(data, dtype, shape, "F" if by_column else "C")


class _FromBuffer(_Kept):
    """Stand-in for `_frombuffer`, which NumPy calls with the whole array."""

    __slots__ = ("values",)

    def __init__(self, data: object, dtype: object, shape: object, order: object) -> None:
        self.values = _filled(data, dtype, shape, order)


def _filled(data: object, dtype: object, shape: object, order: object) -> NDArray[Any]:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype) or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array that NumPy does not write")
    if not isinstance(shape, tuple) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise pickle.UnpicklingError("an invalid shape")
    real = dtype.real()
    if math.prod(shape) * real.itemsize != len(data):
        raise pickle.UnpicklingError("an array whose size differs from its shape")
    return np.frombuffer(data, dtype=real).reshape(shape, order="F" if order == "F" else "C")


# Names that NumPy 1 and 2 write for an array.
_STAND_INS: dict[tuple[str, str], type[_Kept]] = {
    ("numpy", "ndarray"): _NdarrayType,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that looks up names only among the stand-ins: it imports no module and can call nothing else."""

    def find_class(self, module: str, name: str) -> type[_Kept]:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"the name {f'{module}.{name}'[:100]!r}")
        return _STAND_INS[module, name]


def read_array(path: Path) -> NDArray[Any]:
    """Return the array of numbers in a pickle.

    Raises:
        BadInputError: The pickle holds anything else, or is damaged; none of its code was run.
        OSError: The file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            found = _ArrayUnpickler(file).load()
        except _FAULTS as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise BadInputError(
                f"{path} does not contain a NumPy array of numbers ({why}); use another file"
            ) from error
    values = getattr(found, "values", None)
    if not isinstance(found, _Array | _FromBuffer) or values is None:
        raise BadInputError(f"{path} does not contain a NumPy array of numbers; use another file")
    return np.asarray(values)
