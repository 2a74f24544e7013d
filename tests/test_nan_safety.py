"""A branch that was not taken gives an exact zero, to second order, in every mode."""

import warnings
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.coverage.calls import CALLS
from vjpkit.core.rows import annihilate
from vjpkit.ops.products import scale

POINTS = np.array([-2.0, -1.0, 0.0, -0.0])
DIRECTION = np.array([0.5, 1.5, -1.0, 2.0])

# Each is finite for positive x only, and selected for positive x only.
BRANCHES = {
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": lambda x: np.log1p(x - 1),
    "x log x": lambda x: x * np.log(x),
    "log squared": lambda x: np.square(np.log(x)),
    "log + log": lambda x: np.log(x) + np.log(x) * 3.0,
    "abs of log": lambda x: np.abs(np.log(x)),
    "sqrt": np.sqrt,
    "sqrt of square": lambda x: np.sqrt(x * x),
    "sqrt of log": lambda x: np.sqrt(np.log(x) + 9),
    "x sqrt x": lambda x: x * np.sqrt(x),
    "cbrt": np.cbrt,
    "1/x": lambda x: 1 / x,
    "x/x": lambda x: x / x,
    "reciprocal": np.reciprocal,
    "x sin(1/x)": lambda x: x * np.sin(1 / x),
    "cos(1/x)": lambda x: np.cos(1 / x),
    "sinc(1/x)": lambda x: np.sinc(1 / x),
    "x**0.3": lambda x: x**0.3,
    "x**0.5": lambda x: x**0.5,
    "x**-1": lambda x: x**-1,
    "x**-1.5": lambda x: x**-1.5,
    "x**x": lambda x: x**x,
    "2**(1/x)": lambda x: 2.0 ** (1 / x),
    "float_power": lambda x: np.float_power(x, 0.4),
    "arcsin": lambda x: np.arcsin(x / 2 - 1),
    "arccos": lambda x: np.arccos(1 - x / 2),
    "arccosh": lambda x: np.arccosh(x + 1),
    "arctanh": lambda x: np.arctanh(1 - x / 3),
    "arctan2": lambda x: np.arctan2(x * 0, np.maximum(x, 0)),
    "tanh of log": lambda x: np.tanh(np.log(x)),
    "exp": lambda x: np.exp(-1e4 * x),
    "exp2 squared": lambda x: np.exp2(-1e4 * x) ** 2,
    "expm1": lambda x: np.expm1(-1e4 * x),
    "sinh": lambda x: np.sinh(-1e4 * x),
    "cosh": lambda x: np.cosh(-1e4 * x) * 0.5,
    "hypot of log": lambda x: np.hypot(np.log(x), x),
    "logaddexp of logs": lambda x: np.logaddexp(np.log(x), np.log(x)),
    "remainder by 0": lambda x: np.remainder(x, np.maximum(x, 0)),
    "maximum of logs": lambda x: np.maximum(np.log(x), 2 * np.log(x)),
    "complex log": lambda x: np.abs(np.log(x + 0j)),
    "product of quotients": lambda x: (x / 0.0) * x,
}
SELECTIONS = {
    "where": lambda f: lambda x: np.sum(np.where(x > 0, f(x), 0)),
    "where, weighted": lambda f: lambda x: np.sum(np.where(x > 0, f(x) * x, x * 0) * DIRECTION),
    "index": lambda f: lambda x: np.sum(f(x)[x > 0]) + np.sum(0 * x),
}


def first_and_second(f, x):
    """Derivatives in every mode and every order of modes, eager, staged and mapped."""
    gradient = vk.grad(f)
    along = lambda x: vk.jvp(f, (x,), (DIRECTION,))[1]
    yield "grad", gradient(x)
    yield "jvp", along(x)
    yield "grad of grad", vk.grad(lambda x: np.sum(gradient(x) * DIRECTION))(x)
    yield "jvp of grad", vk.jvp(gradient, (x,), (DIRECTION,))[1]
    yield "grad of jvp", vk.grad(along)(x)
    yield "jvp of jvp", vk.jvp(along, (x,), (DIRECTION,))[1]
    yield "hessian", vk.hessian(f)(x)
    yield "pullback of vjp", vk.vjp(gradient, x)[1](DIRECTION)[0]


def staged(f, x):
    gradient = vk.grad(f)
    yield "staged grad", vk.make_ir(gradient)(x)(x)[0]
    yield (
        "grad of staged",
        vk.grad(lambda x: program(x)[0])(x) if (program := vk.make_ir(f)(x)) else 0,
    )
    yield (
        "staged jvp of grad",
        vk.make_ir(lambda x: vk.jvp(gradient, (x,), (DIRECTION,))[1])(x)(x)[0],
    )
    again = lambda x: vk.grad(lambda x: np.sum(gradient(x) * DIRECTION))(x)
    yield "staged grad of grad", vk.make_ir(again)(x)(x)[0]


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("branch", BRANCHES)
def test_a_branch_not_taken_contributes_nothing(branch, selection):
    f = SELECTIONS[selection](BRANCHES[branch])
    with np.errstate(all="ignore"):  # the branch itself may warn, as it does without derivatives
        for mode, got in first_and_second(f, POINTS):
            np.testing.assert_array_equal(got, np.zeros(np.shape(got)), err_msg=mode)


@pytest.mark.parametrize("branch", BRANCHES)
def test_also_staged(branch):
    f = SELECTIONS["where"](BRANCHES[branch])
    with np.errstate(all="ignore"):
        for mode, got in staged(f, POINTS):
            np.testing.assert_array_equal(got, np.zeros(4), err_msg=mode)


@pytest.mark.parametrize("branch", BRANCHES)
def test_also_mapped(branch):
    f = SELECTIONS["where"](BRANCHES[branch])
    one = lambda x: f(x[None])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(vk.vmap(vk.grad(one))(POINTS), np.zeros(4))
        np.testing.assert_array_equal(vk.vmap(vk.grad(vk.grad(one)))(POINTS), np.zeros(4))
        mapped = lambda x: np.sum(vk.vmap(one)(x))
        np.testing.assert_array_equal(vk.grad(mapped)(POINTS), np.zeros(4))


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_branch_taken_is_not_changed_by_its_neighbours(branch):
    """Where some elements take the branch, these have the derivatives that they have alone."""
    f = SELECTIONS["where"](BRANCHES[branch])
    mixed = np.array([-1.0, 0.5, 0.0, 1.25])
    taken = mixed > 0
    with np.errstate(all="ignore"):
        for alone, together in zip(
            [vk.grad(f)(mixed[taken]), np.diag(vk.hessian(f)(mixed[taken]))],
            [vk.grad(f)(mixed), np.diag(vk.hessian(f)(mixed))],
            strict=True,
        ):
            np.testing.assert_allclose(together[taken], alone, rtol=1e-14)
            np.testing.assert_array_equal(together[~taken], 0)


@pytest.mark.parametrize("strict_transform", [vk.grad, vk.jacrev])
def test_strict_restores_ieee_arithmetic(strict_transform):
    f = SELECTIONS["where"](np.sqrt)
    x = np.array([0.0, 4.0])
    np.testing.assert_array_equal(strict_transform(f)(x), [0, 0.25])
    np.testing.assert_array_equal(strict_transform(f, strict=True)(x), [np.nan, 0.25])


def test_strict_tangent():
    root = lambda x: np.sqrt(x)
    assert vk.jvp(root, (0.0,), (0.0,))[1] == 0
    assert np.isnan(vk.jvp(root, (0.0,), (0.0,), strict=True)[1])


@pytest.mark.parametrize("zero", [0.0, np.float64(0.0), np.zeros(2)], ids=["0.0", "f64", "array"])
def test_strict_quotient(zero):
    """0 / 0 in the derivative along x is nan if strict."""
    x, nothing = np.array([1.0, 2.0]), np.zeros(2)
    f = lambda x: x / zero
    with np.errstate(all="ignore"):
        for g in (f, vk.jit(f)):
            along = lambda strict, g=g: vk.jvp(g, (x,), (nothing,), strict=strict)[1]
            back = lambda strict, g=g: vk.vjp(g, x, strict=strict)[1](nothing)[0]
            for d in (along, back):
                np.testing.assert_array_equal(d(False), 0.0)
                assert np.isnan(d(True)).all()


CONTROL: dict[str, Any] = {
    "jit": vk.jit(np.sqrt),
    "cond": lambda x: vk.lax.cond(x < 1, np.sqrt, np.cos, x),
    "scan": lambda x: vk.lax.scan(lambda c, _: (np.sqrt(c), None), x, length=1)[0],
    "scan that keeps states": lambda x: vk.lax.scan(
        lambda c, _: (np.sqrt(c), None), x, length=2, checkpoint="revolve", slots=1
    )[0],
    "fori": lambda x: vk.lax.fori_loop(0, 1, lambda _, c: np.sqrt(c), x),
    "while": lambda x: vk.lax.while_loop(
        lambda state: state[0] < 1, lambda state: (state[0] + 1, np.sqrt(state[1])), (0, x)
    )[1],
    "while that keeps states": lambda x: vk.lax.while_loop(
        lambda state: state[0] < 3,
        lambda state: (state[0] + 1, np.sqrt(state[1])),
        (0, x),
        checkpoint="revolve",
        slots=2,
    )[1],
    "while over examples": lambda x: vk.vmap(
        lambda x, n: vk.lax.while_loop(
            lambda state: state[0] < n, lambda state: (state[0] + 1, np.sqrt(state[1])), (0, x)
        )[1]
    )(np.stack([x, x]), np.array([2, 3]))[0],
    "while in jit": vk.jit(
        lambda x: vk.lax.while_loop(
            lambda state: state[0] < 1, lambda state: (state[0] + 1, np.sqrt(state[1])), (0, x)
        )[1]
    ),
    "checkpoint": vk.checkpoint(np.sqrt, policy=vk.checkpoint_policies.everything_saveable),
    "checkpoint that calls again": vk.checkpoint(np.sqrt),
    "checkpoint over examples": lambda x: vk.vmap(vk.checkpoint(np.sqrt))(np.stack([x, x]))[0],
    "checkpoint_loop": lambda x: vk.checkpoint_loop(lambda s, _: np.sqrt(s), x, [0] * 3, slots=2),
    "checkpoint_loop of unknown length": lambda x: vk.checkpoint_loop(
        lambda s, _: np.sqrt(s), x, iter([0] * 3), slots=2
    ),
    "right side of a linear system": lambda x: vk.lax.custom_linear_solve(
        lambda v: 2.0 * v, np.sqrt(x), lambda _, b: b / 2, lambda _, b: b / 2
    ),
    "cond in scan": lambda x: vk.lax.scan(
        lambda c, _: (vk.lax.cond(c < 1, np.sqrt, np.cos, c), None), x, length=1
    )[0],
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("control", CONTROL)
def test_zero_wins_inside_control_flow_unless_strict(control, strict):
    """And nothing warns, unless strict: infinite slopes are nobody's values."""
    f = CONTROL[control]
    along = lambda x, t: vk.jvp(f, (x,), (t,), strict=strict)[1]
    gradient = vk.grad(lambda x: f(x) * 0.0, strict=strict)
    wanted = np.nan if strict else 0.0
    linear = lambda x: vk.linearize(f, x, strict=strict)[1]
    with np.errstate(all="ignore" if strict else "warn"):
        np.testing.assert_equal(along(0.0, 0.0), wanted)
        np.testing.assert_equal(linear(0.0)(0.0), wanted)
        np.testing.assert_equal(vk.jit(linear)(0.0)(0.0), wanted)
        np.testing.assert_equal(vk.jit(along)(0.0, 0.0), wanted)
        np.testing.assert_equal(vk.vjp(f, 0.0, strict=strict)[1].T(0.0), wanted)
        np.testing.assert_equal(gradient(0.0), wanted)
        np.testing.assert_equal(vk.jit(gradient)(0.0), wanted)
        np.testing.assert_equal(vk.vmap(gradient)(np.zeros(2)), np.full(2, wanted))


def test_derivatives_that_vanish_do_not_warn():
    """Warnings are errors here: neither mode warns about what it does not use."""
    x = np.array([0.0, 4.0])
    for f in (
        lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0)),
        lambda x: np.sum(np.where(x > 0, x**0.25, 0)),
        lambda x: np.sum(np.where(x > 0, np.arccos(1 - x / 8), 0)),
        lambda x: np.sum(np.where(x > 0, np.cbrt(x), 0)),
    ):
        assert vk.grad(f)(x)[0] == 0
        assert vk.jacfwd(f)(x)[0] == 0
        assert vk.hessian(f)(x)[0, 0] == 0
        assert vk.jvp(vk.grad(f), (x,), (np.ones(2),))[1][0] == 0


def test_primal_warnings_are_kept():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        vk.grad(np.log)(np.float64(0))
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        vk.jvp(np.log, (np.float64(0),), (np.float64(1),))


def test_a_nan_that_was_selected_stays():
    f = lambda x: np.sum(np.where(x < 0, np.log(x), 0))
    with np.errstate(all="ignore"):
        assert np.isnan(vk.grad(lambda x: np.sum(np.sqrt(x)))(np.array([-1.0])))[0]
        assert vk.grad(f)(np.array([-2.0]))[0] == -0.5
        assert np.isnan(vk.grad(lambda x: np.sum(x * np.nan))(np.ones(1)))[0]


def test_sigmoid_written_naively():
    """The cotangent of an overflown exponential is 0: 1 / inf^2."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    with np.errstate(over="ignore"):
        assert vk.grad(sigmoid)(np.float64(-1000)) == 0
        assert vk.grad(vk.grad(sigmoid))(np.float64(-1000)) == 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", "complex128"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_zero_annihilates_in_every_dtype_and_layout(dtype, order):
    ct = np.array([[0, 1, 0], [2, 0, 0]], dtype, order=order)
    factor = np.array([[np.inf, 3, np.nan], [np.inf, 5, -np.inf]], dtype, order=order)
    with np.errstate(invalid="ignore"):
        out = annihilate(ct, factor)
        assert out.dtype == ct.dtype
        np.testing.assert_array_equal(out[ct == 0], 0)
        np.testing.assert_array_equal(out[ct != 0], (ct * factor)[ct != 0])
        np.testing.assert_array_equal(annihilate(factor, ct), out)
        assert annihilate(ct[0, 0], factor[0, 0]) == 0
    assert annihilate(ct[:0], factor[:0]).shape == (0, 3)


# ---- products with what is not finite ------------------------------------------------------------

HOLED = np.array([[1.0, 2.0], [np.nan, np.inf], [3.0, 4.0]])
KEPT = np.array([True, False, True])
PRODUCTS = {
    "matmul": lambda w: HOLED @ w,
    "matmul, from the left": lambda w: w @ HOLED.T,
    "einsum": lambda w: np.einsum("ij,j->i", HOLED, w),
    "tensordot": lambda w: np.tensordot(HOLED, w, axes=1),
    "convolve": lambda w: np.convolve(w[:1], HOLED[:, 1])[[0, 1, 2]],
    "of traced values": lambda w: (HOLED * w) @ w,
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_rows_that_are_left_out_of_a_product(product):
    """Missing data is masked after the product; to second order, in every mode."""
    f = lambda w: np.sum(np.where(KEPT, PRODUCTS[product](w), 0) ** 2)
    clean = lambda w: np.sum(PRODUCTS[product](w)[KEPT] ** 2)
    w = np.array([0.5, -0.2])
    with np.errstate(all="ignore"):
        for mode, got in first_and_second(lambda x: f(x[:2]), np.append(w, [0.0, 0.0])):
            assert np.isfinite(got).all(), mode
        np.testing.assert_allclose(vk.grad(f)(w), vk.grad(clean)(w), rtol=1e-14)
        np.testing.assert_allclose(vk.hessian(f)(w), vk.hessian(clean)(w), rtol=1e-14)
        assert np.isnan(vk.vjp(f, w, strict=True)[1](1.0)[0]).any()


OF_DATA = {
    "matmul": lambda x, w: x @ w,
    "matmul, from the left": lambda x, w: w @ np.swapaxes(x, -1, -2),
    "of matrices": lambda x, w: (x @ np.outer(w, w))[:, 0],
    "of stacks": lambda x, w: np.matmul(x[:, None, :], np.stack([w, 2 * w, w])[:, :, None])[
        :, 0, 0
    ],
    "einsum": lambda x, w: np.einsum("ij,j->i", x, w),
    "einsum of three": lambda x, w: np.einsum("ij,j,j->i", x, w, w),
    "tensordot": lambda x, w: np.tensordot(x, w, axes=1),
    "vecdot": lambda x, w: np.vecdot(x, w),
}


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("product", OF_DATA)
def test_rows_that_are_left_out_of_a_compiled_product(product, backend):
    """The data is an argument: nothing is known of it while the program is made."""
    if backend == "native":
        pytest.importorskip("llvmlite")

    def f(w, x):
        return np.sum(np.where(KEPT, OF_DATA[product](x, w), 0) ** 2)

    w = np.array([0.5, -0.2])
    compiled = lambda g, *options: vk.jit(g, backend=backend)
    with np.errstate(all="ignore"):
        for transform in (vk.grad, vk.hessian, lambda f: vk.jacfwd(vk.jacrev(f))):
            want = transform(lambda w: f(w, HOLED))(w)
            assert np.isfinite(want).all()
            np.testing.assert_allclose(compiled(transform(f))(w, HOLED), want, 1e-13)
            np.testing.assert_allclose(transform(vk.jit(f))(w, HOLED), want, 1e-13)
            plain = vk.jit(transform(f), passes=False)(w, HOLED)
            np.testing.assert_allclose(plain, want, 1e-13)
            mapped = compiled(vk.vmap(transform(f), in_axes=(0, None)))(np.stack([w, w]), HOLED)
            np.testing.assert_allclose(mapped, [want, want], 1e-13)
        pushed = compiled(lambda w, x, t: vk.jvp(lambda w: f(w, x), (w,), (t,))[1])
        along = pushed(w, HOLED, np.array([1.0, 0.0]))
        np.testing.assert_allclose(along, vk.grad(f)(w, HOLED)[0], 1e-13)
        strict = compiled(vk.grad(f, strict=True))(w, HOLED)
        assert np.isnan(strict).any()


def test_an_infinity_that_counts_is_kept_in_compiled_products():
    f = lambda w, x: np.sum((x @ w) * np.array([1.0, 0.0]))
    x = np.array([[np.inf, 2.0], [1.0, np.nan]])
    np.testing.assert_array_equal(vk.jit(vk.grad(f))(np.ones(2), x), [np.inf, 2.0])


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_a_scan_of_products_with_what_is_left_out(backend):
    if backend == "native":
        pytest.importorskip("llvmlite")

    def f(w, x):
        step = lambda c, row: (c + np.where(row[0] < 2.5, row @ w, 0.0), None)
        return vk.lax.scan(step, 0.0, x)[0]

    w, x = np.array([0.5, -0.2]), np.array([[1.0, 2.0], [5.0, np.inf], [2.0, 4.0]])
    with np.errstate(all="ignore"):
        want = [3.0, 6.0]
        np.testing.assert_allclose(vk.grad(f)(w, x), want)
        np.testing.assert_allclose(vk.jit(vk.grad(f), backend=backend)(w, x), want)


def test_a_nan_meets_a_python_number():
    tangent = np.array([np.nan, 1.0])
    for f in (lambda x: scale(x, 2), lambda x: scale(2, x)):
        np.testing.assert_array_equal(vk.jvp(f, (np.ones(2),), (tangent,))[1], 2 * tangent)


def test_calls_that_are_not_selected_contribute_nothing():
    """Every call of the coverage, where its partials are zero, infinite or nan."""
    points = (lambda x: 0 * x, lambda x: 0 * x + 1, lambda x: 1e200 * x, lambda x: -x)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in CALLS[::3]:
            for point in points if call.live and call.smooth() else ():
                xs = [np.asarray(point(x)).astype(x.dtype)[()] for x in call.primals]
                try:
                    call.smooth(*xs)
                except (ValueError, np.linalg.LinAlgError, ArithmeticError):
                    continue

                def unselected(*ys, call=call):
                    return sum(np.sum(np.real(np.where(False, y, 0))) for y in call.smooth(*ys))

                for got in vk.vjp(unselected, *xs)[1](1.0):
                    assert not np.any(got), f"{call}: {got}"


def test_a_nan_behind_a_large_product_is_noticed():
    """Large results of matrix products are not read for nan; what they were made of is."""
    x, w = np.ones((2, 100)), np.zeros((100, 300))
    w[0, 1] = 1.0

    def f(w):
        return np.sum(np.where(w[0] > 0, 1.0, 0.0) * np.sqrt(np.matmul(x, w)))

    with np.errstate(all="ignore"):
        gradient = vk.grad(f)(w)
        twice = vk.grad(lambda w: f(w) + np.sum(np.matmul(x, w)))(w)
        added = vk.grad(lambda w: f(w) + w[3, 4])(w)
    np.testing.assert_array_equal(gradient[:, 1], 1.0)
    np.testing.assert_array_equal(np.delete(gradient, 1, axis=1), 0)
    np.testing.assert_array_equal(twice, gradient + 2)
    assert added[3, 4] == 1
    assert np.isfinite(added).all()


@pytest.mark.parametrize("hole", [np.nan, np.inf, 1e200])
def test_a_large_product_with_what_is_not_finite(hole):
    x = np.ones((2, 100))
    x[1, 7] = hole
    with np.errstate(all="ignore"):
        got = vk.grad(lambda w: np.sum(np.where([[1.0], [0.0]], np.matmul(x, w), 0)))
        np.testing.assert_array_equal(got(np.ones((100, 300))), 1)


# ---- matrices without derivatives ----------------------------------------------------------------

DEGENERATE = {"identity": np.eye(3), "rank one": np.diag([1.0, 0.0, 0.0])}
CURVED = {
    "eigh": lambda a: np.sum(np.sin(np.linalg.eigh(a)[1])) + np.sum(np.linalg.eigh(a)[0] ** 3),
    "eigvalsh": lambda a: np.sum(np.linalg.eigvalsh(a) ** 3),
    "eig": lambda a: np.sum(np.abs(np.linalg.eig(a)[1] + np.linalg.eig(a)[0] ** 2)),
    "svd": lambda a: np.sum(np.linalg.svd(a)[0] * np.linalg.svd(a)[2]),
    "svdvals": lambda a: np.sum(np.sqrt(np.linalg.svdvals(a))),
    "cond": np.linalg.cond,
    "nuclear norm": lambda a: np.linalg.norm(a, "nuc"),
    "slogdet": lambda a: np.linalg.slogdet(a).logabsdet,
    "pinv": lambda a: np.sum(np.linalg.pinv(a)),
    "qr": lambda a: np.sum(np.linalg.qr(a)[0]),
    "lstsq": lambda a: np.sum(np.linalg.lstsq(a, np.ones(3))[0]),
}
ALONG = np.array([[0.4, -0.1, 0.7], [-0.1, 1.1, 0.3], [0.7, 0.3, -0.6]])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("choice", ["where", "cond"])
@pytest.mark.parametrize("place", DEGENERATE)
@pytest.mark.parametrize("name", CURVED)
def test_ill_posed_matrices_in_a_branch_not_taken(name, place, choice):
    """The second derivative is that of the branch taken, or an error: eager, staged, and jitted."""
    f, a = CURVED[name], DEGENERATE[place]
    taken = lambda a: np.sum(a * a)
    if choice == "where":
        both = lambda a: np.where(a[0, 0] > 0.5, taken(a), f(a))
    else:
        both = lambda a: vk.lax.cond(a[0, 0] > 0.5, taken, f, a)
    slope = vk.grad(both)
    curvature = vk.grad(lambda a: np.sum(slope(a) * ALONG))
    np.testing.assert_array_equal(slope(a), 2 * a)
    np.testing.assert_array_equal(vk.jit(slope)(a), 2 * a)
    np.testing.assert_array_equal(vk.jit(curvature)(a), 2 * ALONG)
    np.testing.assert_array_equal(vk.make_ir(curvature)(a)(a)[0], 2 * ALONG)
    for eager in (curvature, lambda a: vk.jvp(slope, (a,), (ALONG,))[1]):
        try:
            got = eager(a)
        except vk.core.errors.NotDifferentiableError:
            continue  # said of a value that is computed, whatever is chosen later
        np.testing.assert_array_equal(got, 2 * ALONG)


# A rule must not get a nan for what is zero: it may compare, or replace it.

SYSTEM = np.array([[4.0, 1.0], [1.0, 3.0]])


def conjugate_gradients(matvec: Any, b: Any) -> Any:
    def step(state: Any) -> Any:
        x, r, p = state
        q = matvec(p)
        length = (r @ r) / (p @ q)
        left = r - length * q
        return x + length * p, left, left + (left @ left) / (r @ r) * p

    goes_on = lambda state: state[1] @ state[1] > 1e-24
    return vk.lax.while_loop(goes_on, step, (np.zeros_like(b), b, b))[0]


def by_system(b):
    return vk.lax.custom_linear_solve(
        lambda x: SYSTEM @ x, b, conjugate_gradients, conjugate_gradients
    )


def by_root(b):
    solve = lambda f, x: np.linalg.solve(SYSTEM, vk.lax.stop_gradient(b))
    return vk.lax.custom_root(lambda x: SYSTEM @ x - b, np.zeros(2), solve, conjugate_gradients)


def dense(x):
    return SYSTEM @ x


@vk.custom_vjp
def by_rule(b):
    return np.linalg.solve(SYSTEM, b)


by_rule.defvjp(
    lambda b: (np.linalg.solve(SYSTEM, b), None), lambda _, ct: (conjugate_gradients(dense, ct),)
)

SOLVERS: dict[str, Any] = {
    "system": by_system,
    "root": by_root,
    "rule": by_rule,
    "system in jit": vk.jit(by_system),
    "system in cond": lambda b: vk.lax.cond(b[0] > 0, by_system, np.sin, b),
    "system in scan": lambda b: vk.lax.scan(lambda c, _: (by_system(c), None), b, length=1)[0],
    "rule in checkpoint": vk.checkpoint(by_rule),
    "system in checkpoint_loop": lambda b: vk.checkpoint_loop(
        lambda s, _: by_system(s), b, [0], slots=1
    ),
}
KEEPERS: dict[str, Any] = {
    "eager": lambda f: f,
    "jit": vk.jit,
    "vmap": lambda f: lambda b: vk.vmap(f)(np.stack([b, b]))[1],
}


@pytest.mark.parametrize("keeper", KEEPERS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solver_does_not_get_the_nan_of_a_branch_not_taken(solver, keeper):
    """A comparison with nan would end its iterations, and the gradient would be 0."""

    def f(b):
        y = SOLVERS[solver](b)
        return 5 * y[1] + np.where(y[0] > 100, np.sqrt(y[0] - 1.0), 3.0)  # infinite slope at 1

    b = SYSTEM @ np.array([1.0, 2.0])
    got = KEEPERS[keeper](vk.grad(f))(b)
    np.testing.assert_allclose(got, np.linalg.solve(SYSTEM, [0.0, 5.0]), rtol=1e-12)
