"""Choosing between values, clipping, and what a condition selects."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.against_numpy import assert_same_as_numpy
from tests.numpy.agreement import agrees, source
from vjpkit.core.errors import TracerConversionError

untyped: Any = np  # for calls that are wrong, or that NumPy takes but its types do not
NUMBERS = [-2.1, -1.65, -1.25, -0.85, -0.7, -0.45, 0.55, 0.8, 0.98, 1.3, 1.55, 1.9]
X = np.random.default_rng(1).permutation(NUMBERS).reshape(3, 4)
MASK = X > -0.8
EAGER = {"staged": False, "mapped": False}


def test_where():
    agrees(lambda x, y: np.where(MASK, x, y), X, X[0])
    agrees(lambda x: np.where(x > 0, x, 0.5), X)
    agrees(lambda x: np.where(x, 2.0, x * x), X)
    agrees(lambda x: np.where(True, x, 2.0), np.float64(0.3))
    agrees(lambda x, z: np.where(MASK, x, z), X, X * 1j)
    agrees(lambda x: np.where(MASK, x, np.float64(2)), X.astype(np.float32), order=1)
    agrees(lambda x: x[np.where(x > 0)], X, **EAGER)


def test_select():
    agrees(lambda x: np.select([x > 1, x > 0], [x * x, np.sin(x)], default=-x), X)
    agrees(lambda x: np.select([MASK, ~MASK], [1.0, x]), X)
    agrees(lambda x: np.select([MASK], [x], 2), X.astype(np.float32), order=1)
    agrees(lambda x: np.select([MASK[0], MASK], [x[0], x]), X)


def test_choose():
    agrees(lambda x, y: np.choose([0, 1, 1, 0], [x, y]), X, X[0])
    agrees(lambda x: np.choose(np.array([0, 4, -2, 1]), x, mode="wrap"), X)
    agrees(lambda x: np.choose(np.array([[0], [4], [-2]]), x, mode="clip"), X)
    agrees(lambda x: np.choose(np.argsort(x[:2], axis=0), [x[0], x[1]]), X)
    method = vk.make_ir(lambda x: np.argsort(x[:2], axis=0).choose([x[0], 2.0]))
    assert (method(X)(X)[0] == np.argsort(X[:2], axis=0).choose([X[0], 2.0])).all()


def test_piecewise():
    agrees(lambda x: np.piecewise(x, [x < -0.3, x > 0.4], [lambda u: u * u, np.sin, 3.0]), X)
    agrees(lambda x: np.piecewise(x, x > 0, [np.sin]), X[0])
    agrees(lambda x: np.piecewise(x, [x > 0], [np.sin, np.cos]), X[0, 0])


def test_functions_of_piecewise_see_what_is_selected_and_later_ones_win():
    agrees(
        lambda x: np.piecewise(
            x, [MASK, X > 1], [lambda u, a: np.cumsum(u) * a, lambda u, a: u**3], 2.0
        ),
        X,
    )
    agrees(lambda x: np.piecewise(x, [X > 9, MASK], [lambda u: 1 / u[0], np.sin, 0.0]), X)


# ---- clipping ----------------------------------------------------------------------------------


def test_clip():
    agrees(lambda x: np.clip(x, -0.5, 0.5), X)
    agrees(lambda x, low: np.clip(x, low, None), X, np.float64(-0.3))
    agrees(lambda x, high: np.clip(x, max=high), X, X[0] + 0.1)
    agrees(lambda x, low: np.clip(0.05, low, x), X, np.float64(-1.0))
    agrees(lambda x: np.clip(x), X)
    agrees(lambda x: np.clip(x, a_min=-0.5, a_max=None), X)
    agrees(lambda x: x.clip(-0.5, max=0.3) + x.clip(min=0.2), X)
    agrees(lambda x: np.clip(x, 1.0, -1.0), X)
    agrees(lambda x: np.clip(x, np.float64(-0.5), 1), X.astype(np.float32), order=1)


def test_bounds_share_with_what_they_tie():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    f = lambda x, low, high: np.sum(np.clip(x, low, high) * np.arange(1.0, 6.0))
    g, low, high = vk.grad(f, argnums=(0, 1, 2))(x, -1.0, 1.0)
    assert g.tolist() == [0.0, 1.0, 3.0, 2.0, 0.0]
    assert (low, high) == (1.0 + 1.0, 5.0 + 2.0)


# ---- what a condition selects ------------------------------------------------------------------


def test_places():
    agrees(lambda x: x[np.nonzero(x > 0)] * x[(x > 0).nonzero()], X, **EAGER)
    agrees(lambda x: x.ravel()[np.flatnonzero(x)] * np.argwhere(x).sum(), X, **EAGER)
    agrees(lambda x: x[x.nonzero()], X, **EAGER)


def test_extract_and_compress():
    agrees(lambda x: np.extract(x > 0, x), X, **EAGER)
    agrees(lambda x: np.extract(MASK, x), X)
    agrees(lambda x: np.compress([True, False, True], x, axis=0), X)
    agrees(
        lambda x: x.compress([False, True, True], axis=0) * untyped.compress([0, 1], x[:2], axis=1),
        X,
    )
    agrees(lambda x: np.compress(MASK.ravel(), x), X)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.where(x > 0, x),
        lambda x: np.select([x > 0], []),
        lambda x: np.select([], [], x),
        lambda x: np.select([x], [x]),
        lambda x: np.choose([0, 2, 0, 1], [x, x]),
        lambda x: untyped.choose([0.5], [x, x]),
        lambda x: untyped.choose([0], [x, x], mode="bounce"),
        lambda x: np.piecewise(x, [x > 0], [1, 2, 3]),
        lambda x: np.piecewise(x, [x[0] > 0], [1, 2]),
        lambda x: np.piecewise(x, [x[:, 0] > 0], [1, 2]),
        lambda x: np.piecewise(x, [x[None] > 0], [1, 2]),
        lambda x: np.clip(x, a_min=1),
        lambda x: np.clip(x, 1, 2, min=1),
        lambda x: np.compress([True] * 5, x, axis=1),
        lambda x: np.compress(x > 0, x),
        lambda x: np.compress([True], x, axis=2),
        lambda x: np.compress([True], x),
        lambda x: np.nonzero(x[0, 0]),
    ],
    ids=source,
)
def test_borderline_cases_end_as_in_numpy(f):
    assert_same_as_numpy(f, X)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.nonzero(x),
        lambda x: np.where(x > 0),
        lambda x: np.argwhere(x),
        lambda x: np.extract(x > 0, x),
        lambda x: x.compress(x[:, 0] > 0, axis=0),
    ],
    ids=source,
)
@pytest.mark.parametrize("transform", [vk.make_ir, vk.vmap], ids=["staged", "mapped"])
def test_selections_of_abstract_values_say_why_not(f, transform):
    with pytest.raises(TracerConversionError, match="not known"):
        transform(f)(np.stack([X, X]) if transform is vk.vmap else X)
