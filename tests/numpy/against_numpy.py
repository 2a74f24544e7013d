"""Does a call on a traced array do what it does on a plain one?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import vjpkit as vk
import vjpkit.numpy
from vjpkit.core.aval import aval_of
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.core.rows import Rows, roles
from vjpkit.core.staging import Builder
from vjpkit.core.tracer import Tracer
from vjpkit.numpy._no_axis import is_array
from vjpkit.transforms.batch import Batched, Batches
from vjpkit.tree import flatten

Call = Callable[[Any], Any]

RNG = np.random.default_rng(0)
CUBE = RNG.normal(size=(2, 3, 4))
ARRAYS = {
    "cube": CUBE,
    "vector": RNG.normal(size=5),
    "matrix": RNG.normal(size=(3, 4)),
    "scalar": np.float64(0.7),
    "0d": np.array(1.5),
    "empty": np.zeros((0, 3)),
    "backwards": CUBE[::-1, :, ::2],
    "fortran": np.asfortranarray(CUBE[0]),
    "narrow": CUBE[:1, :, :1],
    "single": CUBE[0].astype(np.float32),
    "complex": CUBE[0] * (1 + 2j),
}
"""Arrays of every rank and layout; what NumPy refuses, traced arrays must refuse too."""


def program(code: str) -> Call:
    """The function of ``X`` that ``code`` is the body of."""
    names = {"np": np, "vnp": vk.numpy}
    return eval(f"lambda X: ({code})", names)


def traced(x: Any) -> Any:
    """``x`` as a traced function sees it."""
    return Rows().argument(x)


def outcome(f: Call, x: Any) -> tuple[Any, Exception | None]:
    """What ``f(x)`` returns, or what it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return f(x), None
        except Exception as error:  # whatever NumPy raises is what is compared
            return None, error


def concrete(x: Any) -> Any:
    return x.concrete() if isinstance(x, Tracer) else x


def assert_same_as_numpy(f: Call, x: Any, tolerance: float = 0.0) -> None:
    """``f`` of a traced ``x``: values, types, dtypes, strides and errors as of ``x`` itself."""
    wanted, wanted_error = outcome(f, x)
    got, error = outcome(f, traced(x))
    if wanted_error is not None:
        assert type(error) is type(wanted_error), f"wanted {wanted_error!r}, got {got!r}, {error!r}"
        return
    if error is not None:
        raise error
    leaves, tree = flatten(wanted)
    traced_leaves, traced_tree = flatten(got)
    assert traced_tree == tree
    for b, a in zip(leaves, map(concrete, traced_leaves), strict=True):
        assert type(a) is type(b)
        if isinstance(b, np.ndarray | np.generic):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            assert np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=a.dtype.kind in "fc")
        else:
            assert a == b
        if isinstance(b, np.ndarray):
            assert dense_strides(a) == dense_strides(b)
    assert_same_kinds(f, x, leaves)


def assert_same_kinds(f: Call, x: Any, wanted: Sequence[Any]) -> None:
    """What is an array of no axis, and what a scalar, does not depend on being staged or mapped."""
    if isinstance(x, np.ndarray | np.generic) and any(map(has_no_axis, wanted)):
        for kind, (abstract, of) in abstract_arguments(x).items():
            got, error = outcome(f, abstract)
            if isinstance(error, UnsupportedError | TracerConversionError):
                continue
            if error is not None:
                raise error
            expected, refused = outcome(f, of)
            if refused is not None:  # NumPy's scalars do not have all of an array's methods
                continue
            expected = flatten(expected)[0]
            for a, b in zip(flatten(got)[0], expected, strict=True):
                if isinstance(a, Tracer) and not a.shape:
                    assert is_array(a) == isinstance(b, np.ndarray), kind


def has_no_axis(x: Any) -> bool:
    return isinstance(x, np.ndarray | np.generic) and not x.ndim


def abstract_arguments(x: Any) -> dict[str, tuple[Any, Any]]:
    """``x`` staged, and as an example of a batch, which is a scalar where it has no axis; each with
    what it stands for."""
    staged = roles["staged_argument"](Builder(), aval_of(x), type(x) is np.ndarray and not x.ndim)
    return {
        "staged": (staged, x),
        "traced while staged": (traced(staged), x),
        "mapped": (Batched(np.stack([x, x]), Batches(2)), x[()]),
    }


def dense_strides(x: np.ndarray[Any, Any]) -> tuple[int, ...]:
    """Strides of the axes that are stepped along: with fewer than two elements none is."""
    return tuple(s for s, n in zip(x.strides, x.shape, strict=True) if n > 1) if x.size > 1 else ()


def assert_linearized(f: Call, x: Any) -> None:
    """The derivatives of ``f``, forward and reverse, agree with central differences.

    For the affine functions that rearrange elements the differences are exact to rounding.
    """
    rng = np.random.default_rng(7)
    t = np.asarray(rng.normal(size=np.shape(x)))[()]
    out, pullback = vk.vjp(f, x)
    leaves = flatten(out)[0]
    h = 1e-3
    up, down = flatten(f(x + h * t))[0], flatten(f(x - h * t))[0]
    differences = [(a - b) / (2 * h) for a, b in zip(up, down, strict=True)]
    tangents = flatten(vk.jvp(f, (x,), (t,))[1])[0]
    for got, want in zip(tangents, differences, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-8)
    cts = [np.asarray(rng.normal(size=np.shape(y)))[()] for y in leaves]
    (ct,) = pullback(flatten(out)[1].unflatten(cts))
    pairing = sum(np.sum(c * d) for c, d in zip(cts, tangents, strict=True))
    np.testing.assert_allclose(np.sum(ct * t), pairing, rtol=1e-12, atol=1e-12)


def mapped(f: Call, xs: Sequence[Any]) -> None:
    """``vmap(f)`` is ``f`` of every example."""
    got = flatten(vk.vmap(f)(np.stack(xs)))[0]
    wanted = [flatten(f(x))[0] for x in xs]
    for i, a in enumerate(got):
        np.testing.assert_allclose(a, np.stack([w[i] for w in wanted]), rtol=1e-13, atol=1e-15)


def staged(f: Call, x: Any) -> None:
    """The program of ``f`` computes what ``f`` computes."""
    got = vk.make_ir(f)(x)(x)
    for a, b in zip(got, flatten(f(x))[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)
        assert np.asarray(a).dtype == np.asarray(b).dtype
