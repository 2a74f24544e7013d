"""The array API standard: its whole namespace does with traced values what NumPy's does."""

from __future__ import annotations

import functools
import inspect
import operator
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
import vjpkit.numpy as vnp
import vjpkit.numpy.array_api as array_api
from tests.numpy.array_api import CALLS, DTYPES, NAMED_OTHERWISE, OPERATORS, SHAPED_BY_DATA
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.core.tracer import Tracer

pytestmark = pytest.mark.skipif(
    np.__array_api_version__ < "2024.12", reason="this NumPy's namespace is of an older standard"
)

X = np.array([[1, 3, 2], [2, 1, 5]])
Y = np.array([[2, 3, 1], [1, 4, 2]])


def found(name: str, namespace: Any) -> Any:
    for part in name.split("."):
        namespace = getattr(namespace, part)
    return namespace


def arguments(call: Callable[..., Any], dtype: str) -> list[np.ndarray]:
    """As many arrays as the call takes after the namespace."""
    code = call.__code__
    names = code.co_varnames[1 : code.co_argcount]
    arrays = {"x": X, "y": Y}
    turned = 1 + 0.5j if dtype.startswith("complex") else 1
    return [(turned * arrays[n]).astype(dtype) for n in names if n in arrays]


def outcome(f: Callable[[], Any]) -> Any:
    """What a call returns, or the type of what it raises."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return f()
        except Exception as error:
            return error


def compare(got: Any, wanted: Any) -> None:
    if isinstance(wanted, Exception):
        assert isinstance(got, type(wanted)), (got, wanted)
        return
    if isinstance(got, Exception):
        raise got
    wanted_leaves, tree = vk.tree_util.tree_flatten(wanted)
    leaves, other = vk.tree_util.tree_flatten(got)
    assert tree == other
    for a, b in zip(leaves, wanted_leaves, strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.shape(a) == np.shape(b)
        tolerance = 1e-5 if np.asarray(b).dtype.char in "fF" else 1e-12
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def namespace_of(x: Any) -> Any:
    """The namespace as a library finds it."""
    return x.__array_namespace__(api_version="2024.12")


def eager(call: Callable[..., Any], xs: list[np.ndarray]) -> Any:
    """The primal outputs, computed on traced values."""

    def f(*tracers: Any) -> tuple[Any, Any]:
        assert all(isinstance(t, Tracer) for t in tracers)
        assert namespace_of(tracers[0]) is array_api
        return 0.0, call(array_api, *tracers)

    return vk.vjp(f, *xs, has_aux=True)[2]


def forward(call: Callable[..., Any], xs: list[np.ndarray]) -> Any:
    """The primal outputs, computed on values that carry tangents."""
    f = lambda *tracers: (0.0, call(namespace_of(tracers[0]), *tracers))
    return vk.jvp(f, xs, xs, has_aux=True)[2]


def mapped(call: Callable[..., Any], xs: list[np.ndarray]) -> Any:
    """The outputs of one of two examples."""
    f = vk.vmap(lambda *tracers: call(namespace_of(tracers[0]), *tracers))
    return vk.tree.map(lambda y: y[1], f(*[np.stack([x[::-1], x]) for x in xs]))


def check(call: Callable[..., Any], name: str) -> None:
    for dtype in DTYPES:
        check_dtype(call, name, dtype)


def check_dtype(call: Callable[..., Any], name: str, dtype: str) -> None:
    xs = arguments(call, dtype)
    wanted = outcome(lambda: call(np, *xs))
    if dtype.startswith(("float", "complex")):
        compare(outcome(lambda: eager(call, xs)), wanted)
        compare(outcome(lambda: forward(call, xs)), wanted)
    staged = outcome(lambda: vk.jit(lambda *ts: call(array_api, *ts))(*xs))
    for got in [staged, outcome(lambda: mapped(call, xs))][: 2 if xs else 1]:
        if name in SHAPED_BY_DATA and not isinstance(wanted, Exception):
            assert isinstance(got, TracerConversionError | UnsupportedError)
        else:
            compare(got, wanted)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_function(name: str) -> None:
    """Values, dtypes and errors are NumPy's, on values and in a program, for every dtype."""
    for call in CALLS[name]:
        check(call, name)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_object(name: str) -> None:
    check(OPERATORS[name], name)


def standard() -> dict[str, Any]:
    """The standard's functions by name, from the reference implementation."""
    reference = pytest.importorskip("array_api_strict")
    reference.set_array_api_strict_flags(api_version="2024.12")
    functions = {}
    for prefix in ("", "linalg.", "fft."):
        module = found(prefix[:-1], reference) if prefix else reference
        for name in module.__all__:
            f = getattr(module, name)
            if inspect.isfunction(f) and "strict_flags" not in name:
                functions[prefix + name] = f
    return functions


def test_every_function_of_the_standard_is_called() -> None:
    assert set(standard()) - {"__array_namespace_info__"} == set(CALLS)


def test_keywords_are_the_standards_or_numpys() -> None:
    """What the standard passes by name, our namespace takes by name."""
    for name, f in standard().items():
        ours = found(name, array_api)
        if ours is not found(name, vnp):
            ours = ours.__wrapped__
            assert ours is found(name, vnp)
        if isinstance(ours, np.ufunc):
            assert len(inspect.signature(f).parameters) - ("axis" in str(inspect.signature(f))) == (
                ours.nin
            ), name
            continue
        taken = inspect.signature(ours).parameters
        wanted = {
            p.name
            for p in inspect.signature(f).parameters.values()
            if p.kind is p.KEYWORD_ONLY and not (name == "astype" and p.name == "copy")
        }
        missing = wanted - set(taken) - NAMED_OTHERWISE.get(name, set())
        renamed = {"correction", "k", "device"} if name in ("std", "var") else set()
        assert not missing - renamed, (name, missing)


def test_every_attribute_of_the_standards_arrays_is_there() -> None:
    reference = pytest.importorskip("array_api_strict")
    wanted = {n for n in dir(type(reference.ones(1))) if n not in dir(object)}
    wanted -= {n for n in wanted if n.startswith("_") and not n.startswith("__")}
    own = {"__annotations__", "__buffer__", "__slots__", "__weakref__", "__module__"}
    in_place = {n for n in wanted if n.startswith("__i") and n[3:] in {w[2:] for w in wanted}}
    assert not {n for n in wanted - own if not hasattr(Tracer, n)}
    assert in_place
    for name in in_place:
        compare_in_place(name)


def compare_in_place(name: str) -> None:
    for dtype in ("float32", "complex128"):
        x, y = X.astype(dtype), Y.astype(dtype)
        operand = np.eye(3, dtype=dtype) if name == "__imatmul__" else y
        change = operator.methodcaller(name, operand)
        wanted = outcome(functools.partial(change, x.copy()))
        compare(outcome(functools.partial(eager, lambda _, x, c=change: c(x), [x])), wanted)


def test_versions() -> None:
    def f(x: Any) -> Any:
        for version in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
            assert x.__array_namespace__(api_version=version) is array_api
        with pytest.raises(ValueError, match="1999"):
            x.__array_namespace__(api_version="1999.12")
        return x

    vk.grad(f)(1.0)
    for xp in (array_api, vnp):
        assert hash(xp) == hash(xp)
        info = xp.__array_namespace_info__()
        assert info.default_device() == "cpu"
        assert set(info.dtypes()) == set(DTYPES)
        assert all(getattr(xp, name) == dtype for name, dtype in info.dtypes().items())
        assert {"e", "inf", "nan", "newaxis", "pi"} <= set(dir(xp))
        assert xp.__array_api_version__ == np.__array_api_version__
        with pytest.raises(AttributeError, match="has no 'einsumm'"):
            _ = xp.einsumm
