"""All of NumPy is accounted for: the calls hold, no keyword is left out, and the table is true."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.coverage import checks, table
from tests.numpy.coverage.call import name_of, parameters_of
from tests.numpy.coverage.calls import CALLS, REFUSALS
from tests.numpy.coverage.calls.ufuncs import NONE
from tests.numpy.coverage.reasons import NOT_DIFFERENTIABLE, REASONS
from vjpkit.core.errors import UnsupportedError
from vjpkit.core.rows import Rows
from vjpkit.numpy._dispatch import functions

VERSION = tuple(map(int, np.__version__.split(".")[:2]))
of_the_table = pytest.mark.skipif(
    VERSION not in table.VERSIONS, reason="the table is of another NumPy"
)

CALLED = table.called()


@pytest.mark.parametrize("name", CALLED)
def test_calls(name):
    for call in CALLED[name]:
        checks.check(call)


@pytest.mark.filterwarnings("default:NumPy .* has functions")
def test_every_name_is_accounted_for():
    deprecated = {"in1d"}  # gone since NumPy 2.4
    unknown = [r.name for r in table.rows() if r.kind == "unknown" and r.name not in deprecated]
    if table.VERSIONS[-1] < VERSION and unknown:
        warnings.warn(f"NumPy {np.__version__} has functions not seen yet: {unknown}", stacklevel=1)
    else:
        assert not unknown, "each needs calls in tests/numpy/coverage/calls, or a reason"


@of_the_table
def test_every_keyword_is_honoured_or_refused():
    assert not table.unasked(), "each needs a call that gives it, or one that is refused"


_OF_UFUNCS = {"out", "where", "casting", "order", "dtype", "subok", "signature", "axes", "axis",
              "keepdims"}  # fmt: skip
_OF_METHODS = {
    "reduce": {"axis", "dtype", "out", "keepdims", "initial", "where"},
    "accumulate": {"axis", "dtype", "out"},
    "reduceat": {"axis", "dtype", "out"},
    "outer": {"dtype", "out"},
    "at": set(),
}


def test_every_keyword_of_ufuncs_is_honoured_or_refused():
    refused = {keyword for keyword, c in REFUSALS if isinstance(c.function, np.ufunc)}
    for method, keywords in {"": _OF_UFUNCS, **_OF_METHODS}.items():
        calls = [c for c in CALLS if isinstance(c.function, np.ufunc) and c.method == method]
        assert keywords <= set().union(*(c.given for c in calls)) | refused, method


@pytest.mark.parametrize(("keyword", "call"), REFUSALS, ids=[f"{k}: {c}" for k, c in REFUSALS])
def test_what_is_refused_is_named(keyword, call):
    with pytest.raises((UnsupportedError, ValueError), match=keyword):
        vk.vjp(call.smooth, *call.primals)


@of_the_table
def test_the_table_is_true():
    written = table.PATH.read_text(encoding="utf-8")
    assert written == table.text(), "write it again: python -m tests.numpy.coverage"


@pytest.mark.parametrize("name", sorted(set(NOT_DIFFERENTIABLE) & set(table.enumerated())))
def test_what_is_not_differentiable_gives_no_traced_result(name):
    """It refuses a traced value by name, or gives text."""
    f = table.enumerated()[name]
    x = Rows().argument(np.ones((3, 3)))
    if f in functions() and NOT_DIFFERENTIABLE[name] == "string":
        assert isinstance(f(x), str)
        return
    arguments = [x] * (f.nin if isinstance(f, np.ufunc) else 1)
    with pytest.raises((UnsupportedError, TypeError, ValueError, AttributeError)):
        f(*arguments, **({"dtype": float} if name == "fromiter" else {}))


def test_reasons_are_of_the_closed_list_and_of_functions_that_exist():
    assert set(NOT_DIFFERENTIABLE.values()) <= set(REASONS)
    assert not set(NOT_DIFFERENTIABLE) & set(CALLED)


@pytest.mark.parametrize("name", sorted(NONE))
def test_what_numpy_has_none_of(name):
    """A method that NumPy itself refuses is refused traced too."""
    ufunc, _, method = name.partition(".")
    run = getattr(getattr(np, ufunc), method)
    arguments = ([0],) if method == "reduceat" else ()
    for x in (np.ones(3), Rows().argument(np.ones(3))):
        with pytest.raises((TypeError, UnsupportedError)):
            run(x, *arguments)


def test_exemptions_name_checks():
    known = {test.__name__ for test in checks.CHECKS} | {"known", "precision"}
    assert all(set(call.exempt) <= known for call in CALLS)


@of_the_table
def test_implementations_have_numpys_arguments():
    """Name and kind of every argument, so that calls by position and by keyword mean the same."""
    compared = 0
    for f, implementation in functions().items():
        try:
            wanted = inspect.signature(f).parameters
        except ValueError:
            continue  # np.fromstring tells no signature
        mine = inspect.signature(implementation).parameters
        if any(p.kind is p.VAR_POSITIONAL for p in mine.values()):
            continue
        missing = parameters_of(f) - set(mine) - {"like", "newshape", "style"}
        assert not missing, f"{name_of(f)}: {missing}"
        positional = [n for n, p in wanted.items() if p.kind is not p.KEYWORD_ONLY and n in mine]
        positional = [n for n in positional if wanted[n].kind is not wanted[n].VAR_KEYWORD]
        assert list(mine)[: len(positional)] == positional, name_of(f)
        compared += 1
    assert compared > 150
