"""Pickle reader: arrays are read unchanged, everything else is refused, and no code runs."""

import builtins
import functools
import io
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import BadInputError
from sim.original.numpy_pickle import read_array
from tests.processes import started
from tests.waiting import PATIENCE


def stored(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "mat.pickle"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8", "i8", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_numbers_comes_out_as_it_went_in(tmp_path: Path, protocol: int, dtype: str, order: Any) -> None:
    array = np.asarray(np.arange(12).reshape(3, 4), dtype=dtype, order=order)
    found = read_array(stored(tmp_path, pickle.dumps(array, protocol)))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(found, array)


@pytest.mark.parametrize("protocol", [3, 4])
def test_the_names_of_numpy_1_are_known(tmp_path: Path, protocol: int) -> None:
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    data = pickle.dumps(np.eye(3), protocol)
    assert new in data
    if protocol == 3:
        data = data.replace(new, old)
    else:
        # A string follows its length, and the rest follows the length of the frame.
        data = data.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
        data = data[:3] + (len(data) - 11).to_bytes(8, "little") + data[11:]
    assert np.array_equal(read_array(stored(tmp_path, data)), np.eye(3))


class Calls:
    """Object that calls a function with arguments when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


class WithState:
    """Object that sets a state on the result of a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], arguments: Any, state: Any) -> None:
        self.reduced = function, arguments, state

    def __reduce__(self) -> Any:
        return self.reduced


def by_hand(code: bytes) -> bytes:
    return b"\x80\x04" + code + b"."


def forged() -> dict[str, Calls]:
    """Return objects of NumPy's own names that treat the bytes of the file as addresses of Python objects."""
    frombuffer: Any = np.zeros(1).__reduce_ex__(5)[0]
    address = Calls(np.ndarray, (1,), np.dtype("O"), b"A" * 8)
    return {
        "an address as shape": Calls(np.ndarray, address),
        "an address as shape of a buffer": Calls(frombuffer, b"A" * 8, np.dtype("f8"), address, "C"),
    }


def hostile(mark: Path) -> dict[str, bytes]:
    """Return pickles that would create the file `mark` if any of their code ran."""
    touch = f"touch {mark}"
    write = f"open({str(mark)!r}, 'w')"
    reconstruct: Any = np.empty(0).__reduce__()[0]
    dtype: Any = np.dtype("f8").__reduce__()[0]
    objects = np.array([Calls(os.system, touch)], dtype=object)
    things: dict[str, Any] = {
        "system": Calls(os.system, touch),
        "eval": Calls(builtins.eval, write),
        "exec": Calls(builtins.exec, write),
        "open": Calls(builtins.open, str(mark), "w"),
        "popen": Calls(subprocess.Popen, ["touch", str(mark)]),
        "getattr": Calls(builtins.getattr, Path, "touch"),
        "import": Calls(builtins.__import__, "os"),
        "partial": Calls(functools.partial, os.system, touch),
        "numpy that writes": Calls(np.save, str(mark), np.eye(2)),
        "numpy that writes text": Calls(np.savetxt, str(mark), [1.0]),
        "numpy that maps": Calls(np.memmap, str(mark), "u1", "w+", 0, (4,)),
        "numpy that reads": Calls(np.fromfile, str(mark)),
        "numpy that runs": Calls(np.vectorize, os.system),
        "an array of objects": objects,
        "inside a list": [np.eye(2), Calls(os.system, touch)],
        "inside a dict": {"mat": np.eye(2), "more": Calls(builtins.eval, write)},
        "as the type of an array": Calls(reconstruct, Calls(builtins.eval, write), (0,), b"b"),
        "as the shape of an array": WithState(
            reconstruct, (np.ndarray, (0,), b"b"), (1, (Calls(os.system, touch),), np.dtype("f8"), False, b"")
        ),
        "as the bytes of an array": WithState(
            reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), np.dtype("f8"), False, Calls(os.system, touch))
        ),
        "as the state of a type": WithState(dtype, ("f8", False, True), Calls(os.system, touch)),
        **forged(),
    }
    codes = {
        "global of old": b"cos\nsystem\n(V" + touch.encode() + b"\ntR.",
        "instance of old": b"(V" + touch.encode() + b"\nios\nsystem\n.",
        "posix": b"cposix\nsystem\n(V" + touch.encode() + b"\ntR.",
        "by a dotted name": by_hand(b"\x8c\x05numpy\x8c\x12_core.os.system.x.y\x93"),
        "through numpy": by_hand(b"\x8c\x05numpy\x8c\x0bctypeslib.x\x93"),
        "numpy's own eval": b"cnumpy.testing._private.utils\nrunstring\n(V" + write.encode() + b"\n}tR.",
        "persistent": b"Vos.system\nQ.",
        "extension": b"\x80\x02\x82\x01.",
        "state of a class": b"cnumpy\nndarray\n}(Vx\nVy\nub.",
        "state of a function": b"cnumpy.core.multiarray\n_reconstruct\n(N}(V__defaults__\n)utb.",
        "class as result": b"cnumpy\ndtype\n.",
        "array without call": b"cnumpy.core.multiarray\n_reconstruct\n)\x81.",
        "huge text": by_hand(b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"),
        "deep": b"(" * 100_000 + b".",
    }
    return {name: pickle.dumps(thing) for name, thing in things.items()} | codes


@pytest.mark.parametrize("name", hostile(Path("/nowhere")))
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "ran"
    path = stored(tmp_path, hostile(mark)[name])
    with pytest.raises(BadInputError) as caught:
        read_array(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert not mark.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["mat.pickle"]


@pytest.mark.parametrize("name", ["system", "eval", "numpy that writes", "inside a list", "as the shape of an array"])
def test_the_hostile_pickles_do_run_where_nothing_guards(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "ran"
    try:
        pickle.loads(hostile(mark)[name])  # noqa: S301 - shows that the test above tests something
    except (TypeError, ValueError):
        pass
    assert list(tmp_path.iterdir())


BY_NAMES_ALONE = """
import pickle, sys
import numpy
class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        assert module.split(".")[0] == "numpy" and name in ("ndarray", "dtype", "_reconstruct", "_frombuffer")
        return super().find_class(module, name)
Unpickler(sys.stdin.buffer).load()
"""


@pytest.mark.parametrize("name", forged())
def test_admitting_numpys_own_names_would_not_be_enough(name: str) -> None:
    data = pickle.dumps(forged()[name])
    pipes: dict[str, Any] = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    with started([sys.executable, "-c", BY_NAMES_ALONE], **pipes) as process:
        _, errors = process.communicate(data, timeout=PATIENCE)
        assert -process.returncode in (signal.SIGSEGV, signal.SIGBUS), errors


@pytest.mark.parametrize(
    "thing",
    [None, 7, "text", [1.0], {"a": 1}, np.float64(1.0), np.array(["a"]), np.array([1 + 2j]), np.zeros(2, "f8,i4")],
)
def test_whatever_is_no_array_of_numbers_is_refused(tmp_path: Path, thing: Any) -> None:
    with pytest.raises(BadInputError, match="does not contain a NumPy array"):
        read_array(stored(tmp_path, pickle.dumps(thing)))


def test_an_array_whose_size_is_not_that_of_its_shape_is_refused(tmp_path: Path) -> None:
    data = io.BytesIO()
    pickle.dump(np.zeros((2, 3)), data, 4)
    changed = data.getvalue().replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86")
    assert changed != data.getvalue()
    with pytest.raises(BadInputError, match="size differs from its shape"):
        read_array(stored(tmp_path, changed))


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 300))
def test_damaged_bytes_give_an_array_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, start: int, end: int
) -> None:
    whole = pickle.dumps(np.eye(4))
    path = stored(tmp_path_factory.getbasetemp(), whole[:start] + junk + whole[end:])
    try:
        found = read_array(path)
    except BadInputError as error:
        assert "\n" not in str(error)
    else:
        assert found.dtype.kind in "fiu"
