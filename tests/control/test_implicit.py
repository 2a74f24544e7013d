"""`custom_root` and `custom_linear_solve` against closed forms and solvers that are differentiated.

Solvers are of two kinds: those that can be staged, and plain code that looks at values.
"""

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg as sparse

import vjpkit as vk
from vjpkit.core.errors import (
    ClosedTraceError,
    NotDifferentiableError,
    NotLinearError,
    TracerConversionError,
)

solve_linear: Any = vk.lax.custom_linear_solve
find_root: Any = vk.lax.custom_root

A = np.array([[4.0, 1.0, -0.5], [0.3, 3.0, 0.7], [-0.2, 0.1, 2.5]])
B = np.array([0.4, -1.3, 0.9])
V = np.array([1.0, -0.5, 2.0])


# ---------------------------------------------------------------------------------------- solvers


def dense(matvec, b):
    return np.linalg.solve(vk.jacobian(matvec)(b), b)


def dense_tree(matvec, b):
    leaves, tree = vk.tree.flatten(b)
    sizes = np.cumsum([x.size for x in leaves])[:-1]
    ravel = lambda t: np.concatenate([np.ravel(x) for x in vk.tree.leaves(t)])

    def unravel(flat):
        parts = np.split(flat, sizes)
        pairs = zip(parts, leaves, strict=True)
        return tree.unflatten([np.reshape(p, x.shape) for p, x in pairs])

    columns = [ravel(matvec(unravel(e))) for e in np.eye(sum(x.size for x in leaves))]
    return unravel(np.linalg.solve(np.stack(columns, axis=1), ravel(b)))


def krylov(matvec, b):
    """SciPy's, of which tracing knows nothing."""
    shape = (b.size, b.size)
    x, info = sparse.gmres(sparse.LinearOperator(shape, matvec, dtype=float), b, rtol=1e-14)
    assert info == 0
    return x


def newton_staged(f, x):
    step = lambda x: x - np.linalg.solve(vk.jacobian(f)(x), f(x))
    return vk.lax.while_loop(lambda x: np.sum(np.abs(f(x))) > 1e-13, step, x)


def newton_plain(f, x):
    for _ in range(50):
        if np.max(np.abs(f(x))) < 1e-13:
            break
        x = x - np.linalg.solve(vk.jacobian(f)(x), f(x))
    return x


LINEAR = {"staged": dense, "plain": krylov}
ROOT = {"staged": newton_staged, "plain": newton_plain}
kinds = pytest.mark.parametrize("kind", ["staged", "plain"])


@pytest.fixture(autouse=True)
def examples_one_by_one_are_announced():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*runs example by example", RuntimeWarning)
        yield


def implicit(kind):
    """sum(v x) with A(a) x = b, where A is nonlinear in a."""

    def f(a, b):
        m = A + np.sin(a) * np.eye(3)
        solver = LINEAR[kind]
        return np.sum(V * solve_linear(lambda x: m @ x, b, solver, solver))

    return f


def direct(a, b):
    return np.sum(V * np.linalg.solve(A + np.sin(a) * np.eye(3), b))


def rooted(kind):
    """sum(v x) at the root of x + tanh(w x) = b."""

    def f(w, b):
        equation = lambda x: x + np.tanh(w * x) - b
        x = find_root(equation, np.zeros(3), ROOT[kind], LINEAR[kind])
        return np.sum(V * x)

    return f


def unrolled(w, b):
    x = b * 0.0
    for _ in range(40):
        slope = 1 + w * (1 - np.tanh(w * x) ** 2)
        x = x - (x + np.tanh(w * x) - b) / slope
    return np.sum(V * x)


CASES = {"linear": (implicit, direct), "root": (rooted, unrolled)}
DERIVATIVES: dict[str, Any] = {
    "value": lambda f: f,
    "grad": lambda f: vk.grad(f, (0, 1)),
    "jvp": lambda f: lambda a, b: vk.jvp(f, (a, b), (0.7, V))[1],
    "reverse over reverse": lambda f: vk.grad(
        lambda a, b: np.sum(vk.grad(f, 1)(a, b) ** 2), (0, 1)
    ),
    "forward over reverse": lambda f: lambda a, b: vk.jvp(vk.grad(f, (0, 1)), (a, b), (0.7, V))[1],
    "reverse over forward": lambda f: vk.grad(lambda a, b: vk.jvp(f, (a, b), (0.7, V))[1], (0, 1)),
    "forward over forward": lambda f: (
        lambda a, b: vk.jvp(lambda a, b: vk.jvp(f, (a, b), (0.7, V))[1], (a, b), (1.0, V))[1]
    ),
}
KEEPERS: dict[str, Any] = {
    "eager": lambda f: f,
    "jit": vk.jit,
    "vmap": lambda f: (
        lambda a, b: vk.tree.map(lambda y: y[1], vk.vmap(f)(np.array([0.1, a]), np.stack([V, b])))
    ),
    "checkpoint": vk.checkpoint,
}


def assert_equal(got, want):
    pairs = zip(vk.tree.leaves(got), vk.tree.leaves(want), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@kinds
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("derivative", DERIVATIVES)
@pytest.mark.parametrize("keeper", KEEPERS)
def test_every_derivative_under_every_transform(keeper, derivative, case, kind):
    made, reference = CASES[case]
    want = DERIVATIVES[derivative](reference)(0.4, B)
    assert_equal(KEEPERS[keeper](DERIVATIVES[derivative](made(kind)))(0.4, B), want)
    if keeper != "eager":
        assert_equal(DERIVATIVES[derivative](KEEPERS[keeper](made(kind)))(0.4, B), want)


@kinds
def test_third_order(kind):
    third = lambda f: vk.grad(vk.grad(vk.grad(f)))(0.4, B)
    assert third(rooted(kind)) == pytest.approx(third(unrolled), rel=1e-9)
    assert third(implicit(kind)) == pytest.approx(third(direct), rel=1e-9)


def test_solvers_get_plain_arrays_where_nothing_is_staged():
    seen = []

    def solver(matvec, b):
        seen.append(type(b))
        return dense(matvec, b)

    vk.grad(vk.grad(lambda a: np.sum(solve_linear(lambda x: a * A @ x, B, solver, solver))))(1.0)
    assert seen
    assert set(seen) == {np.ndarray}


def test_trees_in_equations_that_mix_their_leaves():
    def f(a):
        b = {"u": a * B, "v": [np.array([2.0, a])]}

        def matvec(x):
            u, v = x["u"], x["v"][0]
            return {"u": A @ u + a * np.sum(v), "v": [3.0 * v + u[:2] * a**2]}

        x = solve_linear(matvec, b, dense_tree, dense_tree)
        return np.sum(V * x["u"]) + x["v"][0][1]

    def reference(a):
        top = np.concatenate([A, a * np.ones((3, 2))], axis=1)
        low = np.concatenate([a**2 * np.eye(2, 3), 3.0 * np.eye(2)], axis=1)
        x = np.linalg.solve(np.concatenate([top, low]), np.concatenate([a * B, np.stack([2.0, a])]))
        return np.sum(V * x[:3]) + x[4]

    for d in (vk.grad, lambda f: vk.grad(vk.grad(f)), lambda f: vk.jit(vk.jacfwd(vk.grad(f)))):
        assert d(f)(0.7) == pytest.approx(d(reference)(0.7), rel=1e-10)


def test_a_root_in_a_tree():
    def newton(f, x):
        for _ in range(20):
            residual = f(x)
            dx = dense_tree(lambda v, x=x: vk.jvp(f, (x,), (v,))[1], residual)
            x = vk.tree.map(np.subtract, x, dx)
        return x

    def f(a):
        g = lambda x: (x[0] ** 2 + x[1]["y"] - a, x[1] | {"y": x[1]["y"] - 2.0 * x[0]})
        x, inner = find_root(g, (1.0, {"y": 1.0}), newton, dense_tree)
        return x * inner["y"]

    closed = lambda a: 2.0 * (np.sqrt(1 + a) - 1) ** 2  # x^2 + 2 x = a
    for d in (lambda f: f, vk.grad, lambda f: vk.grad(vk.grad(f)), lambda f: vk.jit(vk.grad(f))):
        assert d(f)(3.0) == pytest.approx(d(closed)(3.0), rel=1e-10)


def test_a_symmetric_matrix_needs_no_other_solver():
    s = A @ A.T
    f = lambda a, b: np.sum(V * solve_linear(lambda x: a * (s @ x), b, dense, symmetric=True))
    want = vk.grad(lambda a, b: np.sum(V * np.linalg.solve(a * s, b)), (0, 1))(1.5, B)
    assert_equal(vk.grad(f, (0, 1))(1.5, B), want)
    assert_equal(vk.jit(vk.grad(f, (0, 1)))(1.5, B), want)


def test_without_a_transposed_solver_forward_mode_works_and_reverse_mode_says_why_not():
    f = lambda a, b: np.sum(solve_linear(lambda x: a * (A @ x), b, dense))
    want = vk.jvp(lambda a, b: np.sum(np.linalg.solve(a * A, b)), (1.5, B), (1.0, V))[1]
    assert vk.jvp(f, (1.5, B), (1.0, V))[1] == pytest.approx(want)
    with pytest.raises(NotDifferentiableError, match="transpose_solve="):
        vk.grad(f)(1.5, B)
    assert vk.jit(f)(1.5, B) == pytest.approx(np.sum(np.linalg.solve(1.5 * A, B)))


def test_equations_are_not_staged_where_no_transform_runs():
    seen = []

    def f(x):
        seen.append(type(x))
        return x * x - 4.0 if x > 0 else x

    assert find_root(f, 1.0, lambda f, x: x - f(x) / 2.0, _divide) == 2.5
    assert set(seen) == {np.float64}


def test_a_right_hand_side_that_moves_in_part():
    def f(b):
        matvec = lambda x: (2.0 * x[0], 3.0 * x[1] + x[0])
        (x, y), _ = solve_linear(matvec, (b, B), pair, has_aux=True)
        return x + y

    def pair(matvec, b):
        first = b[0] / 2.0
        return (first, (b[1] - first) / 3.0), None

    tangent = vk.jvp(f, (B,), (V,))[1]
    np.testing.assert_allclose(tangent, V / 2.0 - V / 6.0, rtol=1e-15)


@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit])
def test_an_unknown_that_no_equation_reads(wrap):
    """One of many solutions is taken, and one of the transposed equations."""

    def some(matvec, b):
        y, _ = matvec((np.ones(3), np.zeros(2)))
        return b[0] / y, np.zeros(2)

    def f(a, b, c):
        x, y = solve_linear(lambda x: (a * x[0], x[0][:2]), (b, c), some, some)
        return np.sum(V * x * x) + np.sum(y)

    got = wrap(vk.grad(f, (0, 1, 2)))(1.5, B, np.ones(2))
    direct = vk.grad(lambda a, b: np.sum(V * (b / a) ** 2), (0, 1))(1.5, B)
    assert_equal(got, (*direct, np.zeros(2)))


def test_aux_comes_back_and_has_no_derivative():
    def solver(matvec, b):
        x = dense(matvec, b)
        return x, {"residual": np.max(np.abs(matvec(x) - b)), "square": x**2}

    def f(a, b):
        x, aux = solve_linear(lambda x: a * (A @ x), b, solver, solver, has_aux=True)
        return np.sum(V * x) + np.sum(aux["square"]), aux

    plain = lambda a, b: np.sum(V * np.linalg.solve(a * A, b))
    got, aux = vk.grad(f, (0, 1), has_aux=True)(1.5, B)
    assert_equal(got, vk.grad(plain, (0, 1))(1.5, B))
    assert aux["residual"] < 1e-14
    assert isinstance(aux["square"], np.ndarray)
    only_b = vk.grad(lambda b: f(1.5, b)[0])(B)
    assert_equal(only_b, vk.grad(plain, 1)(1.5, B))
    assert_equal(vk.jit(vk.grad(lambda a, b: f(a, b)[0], (0, 1)))(1.5, B), got)
    tangent = vk.jvp(lambda b: f(1.5, b)[1]["square"], (B,), (V,))[1]
    np.testing.assert_array_equal(tangent, np.zeros(3))

    def counted(f, x):
        return newton_plain(f, x), 7

    x, count = find_root(lambda x: x**3 - B, np.ones(3), counted, dense, has_aux=True)
    assert count == 7
    np.testing.assert_allclose(x**3, B)
    root = lambda b: find_root(lambda x: x**3 - b, np.sign(B), counted, dense, has_aux=True)[0]
    np.testing.assert_allclose(np.diag(vk.jacobian(root)(B)), 1 / (3 * np.cbrt(B) ** 2))


def test_loops_and_choices_in_the_equations():
    def equation(x, w):
        return vk.lax.scan(lambda c, v: (c + np.sin(v * x) * 0.1, None), x - w, V)[0]

    plain = lambda x, w: x - w + sum(0.1 * np.sin(v * x) for v in V)

    def root(g):
        newton = lambda f, x: vk.lax.fori_loop(0, 20, lambda _, x: x - f(x) / vk.grad(f)(x), x)
        return lambda w: find_root(lambda x: g(x, w), 0.5, newton, lambda g, y: y / g(1.0))

    for d in (vk.grad, lambda f: vk.grad(vk.grad(f)), lambda f: vk.jit(vk.grad(vk.grad(f)))):
        assert d(root(equation))(0.9) == pytest.approx(d(root(plain))(0.9), rel=1e-11)
    slope = 1 + sum(0.1 * v * np.cos(v * root(plain)(0.9)) for v in V)
    assert vk.grad(root(equation))(0.9) == pytest.approx(1 / slope, rel=1e-11)


def test_a_root_inside_a_scan():
    cube = lambda c: find_root(lambda x: x**3 + x - c, 0.5, lambda f, x: _newton(f, x), _divide)
    loop = lambda a: vk.lax.scan(lambda c, t: (cube(c + t * a), None), a, np.arange(4.0))[0]

    def python(a):
        c = a
        for t in range(4):
            c = _newton(lambda x, c=c, t=t: x**3 + x - c - t * a, 0.5)
        return c

    for d in (vk.grad, lambda f: vk.grad(vk.grad(f))):
        for run in (lambda f: f, vk.jit):
            assert run(d(loop))(0.6) == pytest.approx(d(python)(0.6), rel=1e-10)


def _newton(f, x):
    for _ in range(15):
        x = x - f(x) / vk.grad(f)(x)
    return x


def _divide(g, y):
    return y / g(1.0)


def test_complex_unknowns_transpose_without_conjugation():
    c = A + 1j * A.T
    f = lambda b: solve_linear(lambda x: c @ x, b, np_solve(c), np_solve(c.T))
    _, pull = vk.vjp(f, B + 0j)
    np.testing.assert_allclose(pull(V + 0.5j * B)[0], np.linalg.solve(c.T, V + 0.5j * B))


def np_solve(matrix):
    return lambda _, b: np.linalg.solve(matrix, b)


@pytest.mark.parametrize("keeper", ["eager", "jit"])
def test_a_solver_may_close_over_what_is_stopped(keeper):
    def f(a, b):
        scale = vk.lax.stop_gradient(a**2)  # a preconditioner, say
        solver = lambda matvec, b: dense(matvec, b * scale) / scale
        return np.sum(V * solve_linear(lambda x: a * (A @ x), b, solver, solver))

    want = vk.grad(lambda a, b: np.sum(V * np.linalg.solve(a * A, b)), (0, 1))(1.5, B)
    assert_equal(KEEPERS[keeper](vk.grad(f, (0, 1)))(1.5, B), want)


def test_a_solver_that_closes_over_a_traced_value_is_told_what_to_do():
    def f(a):
        def solver(matvec, b):
            return dense(matvec, b * a) / a if b[0] > -99 else b  # which cannot be staged

        return np.sum(V * solve_linear(lambda x: a * (A @ x), B, solver, solver))

    with pytest.raises(ClosedTraceError) as raised:
        vk.grad(f)(1.5)
    assert "stop_gradient of that value" in raised.value.__notes__[0]


class Model:
    """Holds its parameter where closures do not show it."""

    def __init__(self, a):
        self.a = a

    def __call__(self, x):
        return x**3 - self.a


def test_a_solver_that_only_compares_loses_no_derivative():
    def bisect(f, x):
        low, high = 0.0, 4.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if f(middle) < 0 else (low, middle)
        return low

    root = lambda a: find_root(Model(a), 1.0, bisect, _divide)
    assert vk.grad(root)(8.0) == pytest.approx(1 / 12)
    assert vk.jit(vk.grad(root))(8.0) == pytest.approx(1 / 12)


def test_dtypes_are_those_of_the_unknown():
    root = lambda a: find_root(lambda x: x * x - a, np.float32(1.0), _newton, _divide)
    value, gradient = vk.value_and_grad(root)(np.float32(4.0))
    assert (value.dtype, gradient.dtype) == (np.float32, np.float32)
    assert gradient == pytest.approx(0.25, rel=1e-6)
    coarse = lambda f, x: np.float32(_newton(f, x))
    root = lambda a: find_root(lambda x: x * x - a, 1.0, coarse, _divide)
    value, gradient = vk.value_and_grad(root)(4.0)
    assert (value.dtype, gradient.dtype) == (np.float64, np.float64)


def test_plain_solvers_announce_that_a_batch_runs_example_by_example():
    f = lambda b: solve_linear(lambda x: A @ x, b, krylov, krylov)
    with pytest.warns(RuntimeWarning, match=r"krylov: external code runs.*test_implicit\.py"):
        got = vk.vmap(f)(np.stack([B, V]))
    np.testing.assert_allclose(got, np.linalg.solve(A, np.stack([B, V]).T).T)


class Opaque:
    """A solver that asks of its operand what only arrays have."""

    __name__ = "Opaque"

    def __call__(self, matvec, b):
        return np.linalg.solve(A, np.frombuffer(b.tobytes()))


def test_any_solver_runs_inside_of_a_program_and_its_own_errors_come_through():
    f = lambda b: solve_linear(lambda x: A @ x, b, Opaque(), np_solve(A.T))
    np.testing.assert_allclose(vk.jit(f)(B), np.linalg.solve(A, B))

    def failing(matvec, b):
        raise ArithmeticError("diverged")

    broken = vk.jit(lambda b: solve_linear(lambda x: A @ x, b, failing, failing))
    with pytest.raises(ArithmeticError, match="diverged"):
        broken(B)


def test_taylor_series_of_a_root_and_of_a_solution():
    """All coefficients from derivatives of the equations alone."""
    root = lambda a: find_root(lambda x: x * x - a, 1.0, _newton, _divide)
    line = ([1.0, 0.0, 0.0, 0.0],)
    for f in (root, vk.jit(root)):
        got, want = vk.jet(f, (4.0,), line), vk.jet(np.sqrt, (4.0,), line)
        np.testing.assert_allclose(np.stack(got[1]), np.stack(want[1]), rtol=1e-13)
    f, g = implicit("staged"), direct
    curve = (0.4, B), ([1.0, 0.0, 0.0], [V, 0 * V, 0 * V])
    np.testing.assert_allclose(np.stack(vk.jet(f, *curve)[1]), np.stack(vk.jet(g, *curve)[1]))
    xs = np.array([1.0, 2.0, 3.0])
    total = lambda x: np.sum(vk.vmap(root)(x))
    assert vk.laplacian(total)(xs) == pytest.approx(np.sum(-0.25 * xs**-1.5))


def closing_root(a):
    """Every solver closes over the argument."""

    def newton(f, x):
        for _ in range(40):
            x = 0.5 * (x + a / x)
        return x

    return find_root(
        lambda x: x * x - a, 1.0 + 0.0 * a, newton, lambda g, y: y * g(a) / g(a) ** 2 * a
    )


def closing_linear(a):
    m = A + a * np.eye(3)
    return np.sum(
        solve_linear(
            lambda x: m @ x, B, lambda _, b: np.linalg.solve(m, b),
            lambda _, b: np.linalg.solve(m.T, b),
        )
    )  # fmt: skip


def closing_aux(a):
    """The same with solvers that return more."""
    m = A + a * np.eye(3)
    both = lambda m: lambda _, b: (np.linalg.solve(m, b), a * b)
    return np.sum(solve_linear(lambda x: m @ x, B, both(m), both(m.T), has_aux=True)[0])


CLOSING = {
    "aux": (closing_aux, lambda a: np.sum(np.linalg.solve(A + a * np.eye(3), B))),
    "root": (closing_root, np.sqrt),
    "linear": (closing_linear, lambda a: np.sum(np.linalg.solve(A + a * np.eye(3), B))),
}
COMPOSED: dict[str, Any] = {
    "grad": vk.grad,
    "grad of grad": lambda f: vk.grad(vk.grad(f)),
    "jvp": lambda f: lambda a: vk.jvp(f, (a,), (1.0,)),
    "vmap": lambda f: lambda a: vk.vmap(f)(np.array([a, a + 1.0])),
    "vmap of grad": lambda f: lambda a: vk.vmap(vk.grad(f))(np.array([a, a + 1.0])),
    "grad of vmap": lambda f: vk.grad(lambda a: np.sum(vk.vmap(f)(np.stack([a, 2.0 * a])))),
    "vmap of vmap": lambda f: lambda a: vk.vmap(vk.vmap(f))(np.array([[a, a + 1.0]])),
    "vmap of hessian": lambda f: lambda a: vk.vmap(vk.hessian(f))(np.array([a, a + 1.0])),
    "jit of vmap of jit": lambda f: lambda a: vk.jit(vk.vmap(vk.jit(f)))(np.array([a, a + 1.0])),
    "jit of grad of vmap": lambda f: vk.jit(
        vk.grad(lambda a: np.sum(vk.vmap(f)(np.stack([a, 2.0 * a]))))
    ),
}


@pytest.mark.parametrize("composed", COMPOSED)
@pytest.mark.parametrize("which", CLOSING)
def test_solvers_may_close_over_traced_values(which, composed):
    f, g = CLOSING[which]
    want = COMPOSED[composed](g)(2.0)
    np.testing.assert_allclose(COMPOSED[composed](f)(2.0), want, rtol=1e-9)


def test_what_is_wrong_is_said():
    grad_of = lambda f: vk.grad(lambda b: np.sum(f(b)))(B)
    with pytest.raises(NotLinearError, match=r"matvec is not linear(.|\n)*custom_root"):
        grad_of(lambda b: solve_linear(lambda x: x * x, b, dense, dense))
    with pytest.raises(TypeError, match="matvec must return what it takes"):
        grad_of(lambda b: solve_linear(lambda x: x[:2], b, dense, dense))
    with pytest.raises(TypeError, match="f must return what it takes"):
        grad_of(lambda b: find_root(lambda x: x[0] - b[0], B, newton_plain, dense))
    with pytest.raises(TracerConversionError) as raised:
        grad_of(lambda b: find_root(lambda x: x - b if x[0] > 0 else b, B, newton_plain, dense))
    assert "custom_root(<lambda>) stages f" in raised.value.__notes__[0]
    with pytest.raises(ValueError, match=r"returned a solution f64\[2\], but f64\[3\] is wanted"):
        grad_of(lambda b: solve_linear(lambda x: A @ x, b, lambda _, b: b[:2], dense))
    with pytest.raises(ValueError, match=r"returned a solution c128\[3\], but f64\[3\] is wanted"):
        grad_of(lambda b: solve_linear(lambda x: A @ x, b, lambda _, b: b + 1j, dense))
    with pytest.raises(TypeError, match=r"returned a solution of tree"):
        grad_of(lambda b: solve_linear(lambda x: A @ x, b, lambda _, b: (b, b), dense))
    with pytest.raises(TypeError, match=r"has_aux=True .* must return a pair"):
        grad_of(lambda b: solve_linear(lambda x: A @ x, b, dense, dense, has_aux=True)[0])


def test_the_transposed_pushforward_of_a_root_in_a_rule_is_its_pullback():
    """The rule's own linear system is staged inside of a rule, and is linear there too."""

    def cube_root(x):
        return find_root(lambda y: y**3 - x, np.ones(2), newton_staged, dense)

    ruled = vk.custom_vjp(cube_root)
    ruled.defvjp(lambda x: vk.vjp(cube_root, x), lambda pullback, ct: pullback(ct))
    x, ct = np.array([0.5, 2.0]), np.array([1.0, -3.0])

    def transposed(x):
        return vk.linear_transpose(lambda t: vk.jvp(ruled, (x,), (t,))[1], x)(ct)[0]

    want = ct / (3 * np.cbrt(x) ** 2)
    for f in (transposed, vk.jit(transposed), lambda x: vk.vmap(transposed)(x[None])[0]):
        np.testing.assert_allclose(f(x), want, rtol=1e-10)
