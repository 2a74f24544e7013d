"""`vjpkit.numpy` has every public name of NumPy's, or says why not; none is there by accident."""

import importlib
import inspect
import re

import numpy as np
import numpy.fft
import numpy.lib.stride_tricks
import pytest
from numpy.testing.overrides import (
    get_overridable_numpy_array_functions,
    get_overridable_numpy_ufuncs,
)

import vjpkit as vk
import vjpkit.numpy as vnp
from vjpkit.core.errors import UnsupportedError
from vjpkit.core.rows import Rows
from vjpkit.core.tracer import UFUNCS
from vjpkit.numpy import _namespace, _partly
from vjpkit.numpy._dispatch import functions

DISPATCHED = {f"{f.__module__}.{f.__name__}": f for f in get_overridable_numpy_array_functions()}
# Of a function with ``like=`` there are two objects; the public one is what is dispatched.
DISPATCHED |= {name: getattr(np, name[6:]) for name in DISPATCHED if hasattr(np, name[6:])}
UFUNCS_OF_NUMPY = {f.__name__: f for f in get_overridable_numpy_ufuncs()}


def test_every_name_of_numpys_is_here_or_is_left_out_with_a_reason():
    here, left_out = set(vnp.__all__), set(_namespace.LEFT_OUT)
    public = {name for name in np.__all__ if not re.match("_[^_]", name)}
    unknown = public - here - left_out
    assert not unknown, f"decide in _namespace.py what vjpkit.numpy does with {sorted(unknown)}"
    assert not here & left_out
    assert here == public - left_out, "nothing that NumPy does not have"
    assert all(hasattr(vnp, name) for name in vnp.__all__)


def test_what_numpy_dispatches_is_numpys_own():
    dispatched = (np.ufunc, type(np.sum))
    for name in np.__all__:
        x = getattr(np, name)
        if isinstance(x, dispatched) and name not in {*_namespace.LEFT_OUT, *_partly.__all__}:
            assert getattr(vnp, name) is x, name
    assert set(_namespace.OURS) == {
        "arange", "array", "asanyarray", "asarray", "asarray_chkfinite", "ascontiguousarray",
        "asfortranarray", "c_", "empty", "eye", "full", "full_like", "identity", "ones", "r_",
        "require", "take", "tri", "vectorize", "zeros",
    }  # fmt: skip
    ours = {n for n in _namespace.OURS if isinstance(getattr(np, n), dispatched)}
    assert ours == set(_partly.__all__)


def test_what_numpy_dispatches_on_one_argument_takes_traced_ones_in_all():
    a = np.arange(5.0)
    assert vnp.take(a, 2) == 2.0
    assert vk.vmap(lambda i: vnp.take(a, i))(np.array([3, 1])).tolist() == [3.0, 1.0]
    assert vk.jit(lambda i: vnp.take(a, indices=i, mode="clip"))(9) == 4.0
    assert vnp.full_like(a, 2).tolist() == [2.0] * 5
    assert vk.grad(lambda x: np.sum(vnp.full_like(a, x)))(3.0) == 5.0
    assert inspect.signature(vnp.take) == inspect.signature(np.take)


def test_types_and_constants():
    assert vnp.float32 is np.float32
    assert vnp.pi is np.pi
    assert vnp.newaxis is None
    assert vnp.exceptions is np.exceptions


def test_submodules():
    for name in ("linalg", "fft"):
        module = importlib.import_module(f"vjpkit.numpy.{name}")
        numpys = importlib.import_module(f"numpy.{name}")
        assert getattr(vnp, name) is module
        assert all(getattr(module, f) is getattr(numpys, f) for f in numpys.__all__)
        assert set(module.__all__) == set(numpys.__all__)


@pytest.mark.parametrize("name", sorted(_namespace.LEFT_OUT))
def test_what_is_left_out_says_why(name: str):
    with pytest.raises(AttributeError, match=f"no '{name}', which numpy has: .+"):
        getattr(vnp, name)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match=r"vjpkit\.numpy has no 'einsumm'$"):
        _ = vnp.einsumm


@pytest.mark.parametrize("name", sorted(DISPATCHED))
def test_a_function_without_an_implementation_says_so(name: str):
    """Every function that NumPy dispatches is implemented, or is an error that names it."""
    x = Rows().argument(np.ones((3, 3)))
    f = DISPATCHED[name]
    if f in functions():
        return
    with pytest.raises(UnsupportedError, match=f.__name__) as caught:
        x.__array_function__(f, (type(x),), (x,), {})
    assert "test_namespace.py" in str(caught.value)


@pytest.mark.parametrize("name", sorted(UFUNCS_OF_NUMPY))
def test_a_ufunc_without_an_implementation_says_so(name: str):
    x = Rows().argument(np.ones((3, 3)))
    f = UFUNCS_OF_NUMPY[name]
    if f in UFUNCS:
        return
    with pytest.raises((UnsupportedError, TypeError), match=f.__name__):
        f(*[x] * f.nin)


def test_implementations_have_numpys_signatures():
    """Name, kind and default of every argument, of the files that this test stands beside."""
    import inspect

    from vjpkit.numpy import _creation, _indices, _joining, _queries, _shape

    ours = {m.__name__ for m in (_creation, _indices, _joining, _queries, _shape)}
    compared = 0
    for f, implementation in functions().items():
        if getattr(implementation, "__module__", None) not in ours or implementation is f:
            continue
        try:
            wanted = inspect.signature(f)
        except ValueError:
            continue  # written in C, without a signature
        if {"newshape", "style"} & set(wanted.parameters):
            continue  # NumPy 2.1 has arguments that are deprecated, and not here
        got = inspect.signature(implementation)
        wanted_ones = [p for p in wanted.parameters.values() if p.name != "like"]
        later = {"axis"} - set(wanted.parameters) if f is np.trim_zeros else set()  # NumPy 2.2
        got_ones = [p for p in got.parameters.values() if p.name not in {"like"} | later]
        if (
            any(p.kind is p.VAR_POSITIONAL for p in got_ones)
            and implementation.__name__ != f.__name__
        ):
            continue
        assert [(p.name, p.kind) for p in got_ones] == [(p.name, p.kind) for p in wanted_ones], f
        compared += 1
    assert compared > 60  # before NumPy 2.4 what is written in C has no signatures
