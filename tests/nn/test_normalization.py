"""Softmax and its relatives: values by SciPy, derivatives, masks, infinities, bad input."""

from typing import Any

import numpy as np
import pytest
from scipy import special

import vjpkit as vk
from vjpkit.test_util import check_grads

nn: Any = vk.nn
X = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])
MASK = np.array([[True, False, True], [True, True, True]])


@pytest.mark.parametrize("axis", [-1, 0, None, (0, 1)])
def test_values_are_scipys(axis):
    np.testing.assert_allclose(nn.softmax(X, axis), special.softmax(X, axis), rtol=1e-14)
    np.testing.assert_allclose(nn.log_softmax(X, axis), special.log_softmax(X, axis), rtol=1e-14)
    for keepdims in (False, True):
        want = special.logsumexp(X, axis, keepdims=keepdims)
        np.testing.assert_allclose(nn.logsumexp(X, axis, keepdims=keepdims), want, rtol=1e-14)
        count = X.size if axis in (None, (0, 1)) else X.shape[axis]
        got = nn.logmeanexp(X, axis, keepdims=keepdims)
        np.testing.assert_allclose(got, want - np.log(count), rtol=1e-13)


@pytest.mark.parametrize(
    "f",
    [
        nn.softmax, nn.log_softmax, nn.logsumexp, nn.logmeanexp, nn.standardize,
        lambda x: nn.softmax(x, 0, where=MASK), lambda x: nn.logsumexp(x, 1, where=MASK),
        lambda x: np.where(MASK, nn.log_softmax(x, where=MASK), 0),
        lambda x: nn.standardize(x, where=MASK), lambda x: nn.logmeanexp(x, 1, where=MASK),
        lambda x: nn.logsumexp(x, 0, b=x * x + 1), lambda x: nn.standardize(x, 0, mean=x[0]),
        lambda x: nn.logsumexp(x, 0, b=-1 - x * x, return_sign=True)[0],
    ],
    ids=range(13),
)  # fmt: skip
def test_derivatives(f):
    check_grads(f, (X,), 2)
    np.testing.assert_allclose(vk.jit(vk.jacrev(f))(X), vk.jacfwd(f)(X), rtol=1e-10, atol=1e-12)
    both = np.stack([X, 2 * X])
    np.testing.assert_allclose(vk.vmap(f)(both), np.stack([f(x) for x in both]), rtol=1e-13)


@pytest.mark.parametrize("scale", [1e3, 1e30, 1e200])
def test_nothing_overflows(scale):
    x = X * scale
    for f in (nn.softmax, nn.log_softmax, nn.logsumexp, nn.logmeanexp):
        total = lambda x, f=f: np.sum(f(x) * 0.5)
        slope = vk.grad(total)
        assert np.all(np.isfinite(f(x)))
        assert np.all(np.isfinite(slope(x)))
        assert np.all(np.isfinite(vk.jvp(slope, (x,), (X,))[1]))


def test_what_is_left_out_does_not_count():
    x = np.where(MASK, X, np.nan)
    np.testing.assert_allclose(nn.softmax(x, where=MASK)[0, [0, 2]], nn.softmax(X[0, [0, 2]]))
    assert nn.softmax(x, where=MASK)[0, 1] == 0
    assert nn.log_softmax(x, where=MASK)[0, 1] == -np.inf
    np.testing.assert_allclose(nn.logsumexp(x, 1, where=MASK)[0], nn.logsumexp(X[0, [0, 2]]))
    gradient = vk.grad(lambda x: np.sum(nn.softmax(x, where=MASK) ** 2))(x)
    assert gradient[0, 1] == 0
    assert np.all(np.isfinite(gradient))


def test_infinities():
    x = np.array([0.0, -np.inf, 1.0])
    np.testing.assert_allclose(nn.softmax(x)[[0, 2]], nn.softmax(x[[0, 2]]))
    assert nn.logsumexp(np.full(2, -np.inf)) == -np.inf
    assert nn.logsumexp(np.array([np.inf, 0.0])) == np.inf
    assert nn.logsumexp(np.zeros((0,))) == -np.inf
    assert np.all(np.isfinite(vk.grad(lambda x: nn.logsumexp(x))(x)))
    b = np.array([1.0, 0.0])
    assert nn.logsumexp(np.array([0.0, 1e4]), b=b) == 0.0


def test_signs_of_logsumexp():
    assert np.isnan(np.asarray(special.logsumexp([0.0], b=[-1.0])))
    with np.errstate(invalid="ignore"):
        assert np.isnan(nn.logsumexp(np.array([0.0]), b=np.array([-1.0])))
    value, sign = nn.logsumexp(X, 1, b=X, return_sign=True)
    want, want_sign = special.logsumexp(X, 1, b=X, return_sign=True)
    np.testing.assert_allclose(value, want, rtol=1e-13)
    np.testing.assert_array_equal(sign, want_sign)


def test_one_hot():
    np.testing.assert_array_equal(nn.one_hot(np.array([1, 0]), 2), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(
        nn.one_hot(np.array([1, -1, 5]), 2, axis=0), [[0, 0, 0], [1, 0, 0]]
    )
    assert nn.one_hot(1, 3, dtype=np.float32).dtype == np.float32
    assert nn.one_hot(np.zeros((2, 3), int), 4, axis=1).shape == (2, 4, 3)
    mapped = vk.vmap(lambda i: nn.one_hot(i, 3))(np.arange(3))
    np.testing.assert_array_equal(mapped, np.eye(3))
    np.testing.assert_array_equal(vk.jit(lambda i: nn.one_hot(i, 3))(np.arange(3)), np.eye(3))


def test_precision_is_kept():
    x = X.astype(np.float32)
    for f in (nn.softmax, nn.log_softmax, nn.logsumexp, nn.logmeanexp, nn.standardize):
        assert f(x).dtype == np.float32
        assert vk.grad(lambda x, f=f: np.sum(f(x)))(x).dtype == np.float32
        assert f(np.arange(3)).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nn.softmax(X, 2), ValueError, "softmax: axis=2 is out of range for x of shape"),
        (lambda: nn.softmax(X, "a"), TypeError, "softmax: axis must be an int, a tuple"),
        (lambda: nn.softmax(X * 1j), TypeError, "softmax: x is complex"),
        (lambda: nn.softmax(X, where=X), TypeError, "softmax: where must be a mask of booleans"),
        (lambda: nn.log_softmax(None), TypeError, "log_softmax: x: NoneType is not an array"),
        (lambda: nn.log_softmax(X, 1.5), TypeError, "log_softmax: axis must be an int"),
        (lambda: nn.logsumexp(X, b="b"), TypeError, "logsumexp: b: str is not an array"),
        (lambda: nn.logsumexp({}), TypeError, "logsumexp: a: dict is not an array"),
        (lambda: nn.logmeanexp(X, 7), ValueError, "logmeanexp: axis=7 is out of range"),
        (lambda: nn.standardize(X, mean="m"), TypeError, "standardize: mean: str"),
        (lambda: nn.standardize(X, epsilon=None), TypeError, "standardize: epsilon: NoneType"),
        (lambda: nn.one_hot(X, 2.5), TypeError, "one_hot: num_classes must be an int, got 2.5"),
        (lambda: nn.one_hot(X, 2, axis=4), ValueError, "one_hot: axis=4 is no place"),
    ],
    ids=lambda p: p if isinstance(p, str) else None,
)
def test_bad_input(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
    assert "test_normalization.py:" in str(caught.value)
