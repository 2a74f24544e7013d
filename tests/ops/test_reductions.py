"""Extrema, products, variances and running forms of them: kinks, zeros, ties, long recurrences."""

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.ops import ordering, reductions
from vjpkit.ops.cumulative import cummax, cummin, cumprod, recurrence
from vjpkit.ops.selection import same
from vjpkit.testing import check_grads

RNG = np.random.default_rng(7)


def gradient(f, *args):
    return vk.grad(lambda *xs: np.sum(f(*xs)), argnums=tuple(range(len(args))))(*args)


# ---- ties --------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [np.max, np.amax, np.min])
def test_elements_that_tie_share_equally(function):
    sign = -1.0 if function is np.min else 1.0
    x = sign * np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    (g,) = gradient(lambda x: function(x, axis=1), x)
    assert g.tolist() == [[0.0, 0.5, 0.5, 0.0], [0.25] * 4]
    (g,) = gradient(lambda x: function(x), x)
    assert g.tolist() == [[0.0, 0.5, 0.5, 0.0], [0.0] * 4]
    t = np.array([[0.0, 1.0, 3.0, 9.0], [1.0, 2.0, 3.0, 6.0]])
    assert vk.jvp(lambda x: function(x, axis=1), (x,), (t,))[1].tolist() == [2.0, 3.0]


def test_a_nan_is_its_own_extremum():
    x = np.array([1.0, np.nan, 3.0, np.nan])
    (g,) = gradient(np.max, x)
    assert g.tolist() == [0.0, 0.5, 0.0, 0.5]


def test_the_second_derivative_of_an_extremum_is_zero():
    x = np.array([1.0, 3.0, 3.0])
    assert not vk.hessian(np.max)(x).any()
    assert vk.hessian(lambda x: np.max(x) ** 2)(x).tolist() == [
        [0.0, 0.0, 0.0],
        [0.0, 0.5, 0.5],
        [0.0, 0.5, 0.5],
    ]


@pytest.mark.parametrize(("primitive", "sign"), [(cummax, 1.0), (cummin, -1.0)])
def test_running_extrema_share_among_those_that_attained_them_so_far(primitive, sign):
    x = sign * np.array([1.0, 3.0, 2.0, 3.0, 3.0, 4.0])
    rows = vk.jacrev(lambda x: primitive(x, axis=0, reverse=False))(x)
    third = 1 / 3
    assert rows == pytest.approx(
        np.array(
            [
                [1, 0, 0, 0, 0, 0],
                [0, 1, 0, 0, 0, 0],
                [0, 1, 0, 0, 0, 0],
                [0, 0.5, 0, 0.5, 0, 0],
                [0, third, 0, third, third, 0],
                [0, 0, 0, 0, 0, 1],
            ]
        )
    )
    backwards = vk.jacrev(lambda x: primitive(x, axis=0, reverse=True))(x[::-1].copy())
    assert backwards == pytest.approx(rows[::-1, ::-1])


def test_spread_and_mean_where_are_transposes_under_ties():
    mask = np.array([[True, False, True], [True, True, True]])
    x, t = RNG.normal(size=2), RNG.normal(size=(2, 3))
    params = {"axes": (1,), "keepdims": False}
    full = reductions.spread(x, mask, **params)
    mean = reductions.mean_where(t, mask, **params)
    assert full.sum(axis=1) == pytest.approx(x)
    assert mean == pytest.approx([t[0, [0, 2]].mean(), t[1].mean()])
    assert np.sum(full * t) == pytest.approx(np.sum(x * mean))


def test_same_takes_nan_for_nan():
    x = np.array([1.0, np.nan, np.nan, 2.0])
    y = np.array([1.0, np.nan, 3.0, np.nan])
    assert same(x, y).tolist() == [True, True, False, False]


# ---- products ----------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [(), (1,), (0, 3), (1, 2, 4), (0, 1, 2, 3, 4)])
def test_products_are_exact_at_zeros_to_third_order(zeros):
    x = np.array([2.0, -3.0, 0.5, 4.0, 1.5])
    x[list(zeros)] = 0.0

    def others(*left_out):
        return np.prod(np.delete(x, left_out))

    n = range(len(x))
    (g,) = gradient(np.prod, x)
    assert g.tolist() == [others(i) for i in n]
    second = vk.hessian(np.prod)(x)
    assert second.tolist() == [[0.0 if i == j else others(i, j) for j in n] for i in n]
    third = vk.jacfwd(vk.hessian(np.prod))(x)
    assert third.tolist() == [
        [[0.0 if len({i, j, k}) < 3 else others(i, j, k) for k in n] for j in n] for i in n
    ]


def test_products_over_several_axes():
    x = RNG.normal(size=(2, 3, 2))
    x[0, 1, 0] = 0.0
    check_grads(lambda x: np.prod(x, axis=(0, 2)), (x,), 2)
    check_grads(lambda x: np.prod(x, axis=(-1, 0), keepdims=True), (x,), 2)


@pytest.mark.parametrize("reverse", [False, True])
def test_running_products_are_exact_at_zeros(reverse):
    x = np.array([[2.0, 0.0, 3.0, 0.0, 0.5], [0.0, 1.0, -2.0, 4.0, 3.0]])
    f = lambda x: cumprod(x, axis=1, reverse=reverse)
    check_grads(f, (x,), 3)
    for row in x:
        rows = vk.jacrev(lambda r: cumprod(r, axis=0, reverse=reverse))(row)
        order = range(len(row) - 1, -1, -1) if reverse else range(len(row))
        for n, k in enumerate(order):
            used = list(order)[: n + 1]
            exact = [
                np.prod(row[[j for j in used if j != i]]) if i in used else 0.0 for i in range(5)
            ]
            assert rows[k].tolist() == exact


# ---- recurrences -------------------------------------------------------------------------------


def stepwise(a, b):
    y = np.array(b)
    for k in range(1, len(y)):
        y[k] += a[k] * y[k - 1]
    return y


@pytest.mark.parametrize("n", [0, 1, 2, 64, 65, 1000, 1024, 5003])
@pytest.mark.parametrize("lanes", [(), (3,)])
def test_a_recurrence_of_any_length_is_the_loop(n, lanes):
    a, b = RNG.normal(size=(n, *lanes)), RNG.normal(size=(n, *lanes))
    wanted = stepwise(a, b)
    got = recurrence(a, b, axis=0, reverse=False)
    assert got == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    turned = recurrence(a[::-1], b[::-1], axis=0, reverse=True)
    assert turned[::-1] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("factor", [1e30, 1e-30, 1e200])
def test_a_recurrence_is_exact_where_products_of_its_factors_are_out_of_range(factor):
    a, b = np.full(400, factor), np.zeros(400)
    a[1::2] = 1 / factor
    a[100:150], a[200:250] = factor, 1 / factor
    b[[0, -1]] = 1.0
    with np.errstate(over="ignore"):
        assert recurrence(a, b, axis=0, reverse=False).tolist() == stepwise(a, b).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_a_long_recurrence_keeps_its_dtype_and_derivatives(dtype):
    a = (0.9 * RNG.normal(size=300)).astype(dtype)
    b = RNG.normal(size=300).astype(dtype)
    assert recurrence(a, b, axis=0, reverse=False).dtype == dtype
    if dtype is np.complex128:
        check_grads(lambda a, b: recurrence(a / 3, b, axis=0, reverse=False), (a, b), 1)


# ---- variances ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 3.0, 0.1, -1e10, 1 / 3])
@pytest.mark.parametrize("ddof", [0, 1])
def test_the_deviation_of_equal_values_has_derivative_zero(value, ddof):
    # The mean of equal numbers may be off by a rounding, and NumPy's result then is not 0.
    x = np.full((7, 3), value)
    f = lambda x: np.sum(np.std(x, axis=0, ddof=ddof))
    assert not vk.grad(f)(x).any()
    assert not vk.jvp(f, (x,), (RNG.normal(size=x.shape),))[1]
    assert not vk.hessian(f)(x).any()


@pytest.mark.parametrize("function", [np.std, np.nanstd])
def test_the_deviation_of_equal_values_under_a_mask(function):
    x = np.array([0.1, 0.1, 5.0, 0.1])
    mask = np.array([True, True, False, True])
    assert not vk.grad(lambda x: function(x, where=mask))(x).any()
    assert vk.grad(lambda x: function(x))(x).any()


def test_one_slice_of_equal_values_does_not_disturb_the_others():
    x = np.array([[0.1, 0.1, 0.1], [1.0, 2.0, 4.0]])
    (g,) = gradient(lambda x: np.std(x, axis=1), x)
    (alone,) = gradient(np.std, x[1])
    assert g[0].tolist() == [0.0, 0.0, 0.0]
    assert g[1] == pytest.approx(alone)


def test_complex_variance_is_real_with_the_gradient_du_dx_minus_i_du_dy():
    z = RNG.normal(size=5) + 1j * RNG.normal(size=5)
    value, g = vk.value_and_grad(np.var)(z)
    assert value.dtype == np.float64
    assert g == pytest.approx(2 * np.conj(z - z.mean()) / 5)


@pytest.mark.parametrize("ddof", [2, 3])
@pytest.mark.parametrize("f", [np.var, np.std])
def test_without_degrees_of_freedom_the_gradient_is_nan(f, ddof):
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="Degrees of freedom"):
        assert np.isnan(vk.grad(lambda x: f(x, ddof=ddof))(np.array([1.0, 2.0]))).all()


# ---- order -------------------------------------------------------------------------------------


def test_inverse_permutations_undo():
    order = np.argsort(RNG.normal(size=(4, 5, 3)), axis=1)
    x = RNG.normal(size=(4, 5, 3))
    there = ordering.permuted(x, order, axis=1)
    back = ordering.permuted(there, ordering.inverse_permutation(order, axis=1), axis=1)
    assert (back == x).all()


def test_where_gives_an_exact_zero_to_what_it_did_not_select():
    ct = np.array([np.inf, np.nan, 2.0])
    mask = np.array([False, False, True])
    _, pullback = vk.vjp(lambda x, y: np.where(mask, x, y), np.ones(3), np.ones(3))
    x, y = pullback(ct)
    assert x.tolist() == [0.0, 0.0, 2.0]
    assert np.isinf(y[0])
    assert np.isnan(y[1])
    assert y[2] == 0.0


# ---- size --------------------------------------------------------------------------------------


def equations(f, *args):
    return [e.primitive.name for e in vk.make_ir(f)(*args).program.equations]


def test_reductions_stay_few_equations():
    x = np.ones((4, 3))
    assert equations(lambda x: np.mean(x, axis=1), x) == ["sum", "divide"]
    assert equations(lambda x: np.max(x, axis=-1, keepdims=True), x) == ["max"]
    assert equations(lambda x: np.var(x, axis=0, ddof=1), x) == ["var"]
    assert equations(lambda x: np.std(x), x) == ["std"]
    pulled = equations(lambda x: vk.grad(lambda x: np.sum(np.max(x, axis=1)))(x), x)
    assert pulled.count("spread") == 1
    assert len(pulled) <= 8
