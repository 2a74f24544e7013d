"""Every keyword of every function, with what NumPy takes and what it refuses: so do traced arrays.

One call of each function is made with each value below for each of its keywords. What NumPy
refuses must be refused by an error of its type, or by one of ours that says that it is not
supported; where NumPy gives a value, so must we, or say that we do not.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.coverage import table
from tests.numpy.coverage.call import Call, parameters_of
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.core.tracer import Tracer
from vjpkit.pytree import flatten

VALUES: dict[str, list[Any]] = {
    "axis": [0, -1, None, True, False, np.int64(0), (0,), (0, 1), (0, 0), (True,), [0], 5, -5, 1.0,
             "a", np.array(0)],
    "keepdims": [True, False, 1, 0, np.True_, None, "a", np.array(True), 2.5, [1]],
    "dtype": ["f4", "c16", np.float16, int, complex, bool, None, "g", "O", "nonsense"],
    "initial": [0, 0.5, np.nan, np.inf, -3, None, np.float32(2)],
    "casting": ["no", "safe", "unsafe", "equiv", "bad", None],
    "order": ["C", "F", "A", "K", None, "Z", 0],
    "ddof": [0, 1, 2, 0.5, -1, True, 10],
    "correction": [0, 1, 0.5],
    "n": [0, 1, 3, -1, 2.0, True],
    "norm": [None, "ortho", "forward", "bad"],
    "ord": [None, 1, -2, np.inf, 0, "fro", "nuc", "bad", 3],
    "decimals": [0, 1, -1, 1.5, True],
    "method": ["linear", "lower", "nearest", "hazen", "inverted_cdf", "bad"],
    "rowvar": [True, False, 1],
    "bias": [True, False, 1],
    "endpoint": [True, False, 1, 0, None],
    "num": [3, 0, 1, -1, 2.0],
}  # fmt: skip

UFUNC_KEYWORDS = {
    "": ("dtype", "casting", "order"),
    "reduce": ("axis", "keepdims", "dtype", "initial"),
    "accumulate": ("axis", "dtype"),
    "reduceat": ("axis", "dtype"),
    "outer": ("dtype",),
    "at": (),
}


def keywords_of(call):
    """The keywords that may be given to this call besides its positional arguments."""
    if isinstance(call.function, np.ufunc):
        own = ("axis", "keepdims") if call.function.signature and not call.method else ()
        return UFUNC_KEYWORDS[call.method] + own
    try:
        order = list(inspect.signature(call.function).parameters)
    except ValueError:
        return ()
    return tuple(parameters_of(call.function) - set(order[: len(call.args)]))


CASES = {
    name: next(c for c in calls if c.live)
    for name, calls in table.called().items()
    if any(c.live for c in calls)
}


def outcome(run):
    """What is returned, or the error."""
    with warnings.catch_warnings(action="ignore"):
        try:
            return run(), None
        except Exception as error:  # whatever NumPy raises is what is compared
            return None, error


def traced(call):
    """The values of the results of a call on traced arrays."""
    seen = []

    def run(*xs):
        leaves, tree = flatten(call.run(*xs))
        seen.append(tree.unflatten([y.concrete() if isinstance(y, Tracer) else y for y in leaves]))
        return 0.0

    vk.vjp(run, *call.primals)
    return seen[0]


def differences(call: Call, keyword: str, value: Any) -> Iterator[str]:
    """What a traced call does that NumPy's does not; nothing where one says it is unsupported."""
    call = replace(call, kwargs={**call.kwargs, keyword: value})
    wanted, wanted_error = outcome(lambda: call.run(*call.primals))
    got, error = outcome(lambda: traced(call))
    if isinstance(error, UnsupportedError | TracerConversionError):
        return
    if wanted_error is not None or error is not None:
        if not isinstance(error, type(wanted_error)):
            yield f"{call!r}: NumPy {wanted_error!r}, traced {got!r} {error!r}"
        return
    leaves, tree = flatten(wanted)
    others, other_tree = flatten(got)
    if tree != other_tree:
        yield f"{call!r}: {tree} became {other_tree}"
    for a, b in zip(leaves, others, strict=False):
        if not isinstance(a, np.ndarray | np.generic | int | float | complex):
            continue
        a, b = np.asarray(a), np.asarray(b)
        if a.dtype != b.dtype or a.shape != b.shape:
            yield f"{call!r}: {a.dtype}{a.shape} became {b.dtype}{b.shape}"
        elif call.name not in ("empty", "empty_like"):  # whose values nobody has set
            tolerance = 100 * float(np.finfo(a.dtype).eps) if a.dtype.kind in "fc" else 0.0
            with np.errstate(all="ignore"):
                close = np.array_equal(a, b) or (
                    a.dtype != object and np.allclose(a, b, tolerance, tolerance, equal_nan=True)
                )
            if not close:
                yield f"{call!r}: {a} became {b}"


VERSION = tuple(map(int, np.__version__.split(".")[:2]))


@pytest.mark.skipif(
    VERSION not in table.VERSIONS, reason="keywords and errors are of another NumPy"
)
@pytest.mark.parametrize("keyword", VALUES)
def test_keywords_mean_what_they_mean_to_numpy(keyword):
    found = [
        difference
        for call in CASES.values()
        if keyword in keywords_of(call)
        for value in VALUES[keyword]
        for difference in differences(call, keyword, value)
    ]
    assert not found, "\n".join(found)
