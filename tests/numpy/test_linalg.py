"""numpy.linalg through plain NumPy: values, derivatives, staging, mapping, errors."""

import warnings
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.agreement import agrees
from vjpkit.core.errors import NotDifferentiableError, UnsupportedError
from vjpkit.ops import lapack

LA = np.linalg
V = np.array([0.7, -1.1, 0.4])
A = np.array([[1.3, -1.2, 2.5], [1.7, 0.4, -0.6], [0.2, 0.9, -1.1]])
B = np.array([[0.5, 1.1], [-0.7, 0.2], [1.3, -0.9]])
I = np.array([[0.2, 0.1, -0.3], [-0.4, 0.3, 0.6], [0.1, -0.5, 0.2]])  # noqa: E741
C = A + 1j * I
P = np.array([[1.3 + 0.2j, -1.2, 2.5j], [1.7, 0.9 - 0.4j, -0.6 + 1j]])
D = np.array([[1.0, 0.3, -0.2], [0.1, 2.5, 0.4], [-0.3, 0.2, -1.5]])
S = np.array([[4.0, 0.5, -0.8], [0.5, 3.0, 0.3], [-0.8, 0.3, 2.5]])
H = S + 1j * (I - I.T)
STACK = np.stack([A, A.T + 1])
SINGULAR = B @ B.T
TENSOR = np.random.default_rng(0).normal(size=36)

PROGRAMS = [
    ("LA.solve(x, y)", A, B),
    ("LA.solve(x, y)", A, V),
    ("LA.solve(x, y)", STACK, B),
    ("LA.solve(x, y)", C, B),
    ("LA.solve(x.T, y)", A, C),
    ("LA.solve([[2, 1], [1, 3]], x)", V[:2]),
    ("LA.solve(x, [1, 2, 3])", A),
    ("LA.inv(x)", A),
    ("LA.inv(x)", STACK),
    ("LA.inv(x)", C),
    ("LA.det(x)", A),
    ("LA.det(x)", STACK),
    ("LA.det(x)", C),
    ("LA.det(x)", SINGULAR),
    ("LA.det(x)", np.outer(V, V)),
    ("LA.det(x)", np.zeros((2, 2))),
    ("LA.slogdet(x)", A),
    ("LA.slogdet(x).logabsdet", STACK),
    ("LA.slogdet(x)", C),
    ("LA.cholesky(x)", S),
    ("LA.cholesky(x)", np.stack([S, 2 * S])),
    ("LA.cholesky(x)", H),
    ("LA.cholesky(x, upper=True)", S),
    ("LA.cholesky(x, upper=True)", H),
    ("LA.eigh(x)", S),
    ("LA.eigh(x, 'U')", S),
    ("LA.eigh(x)", S + 1j * I),
    ("LA.eigh(x, UPLO='U').eigenvectors", H),
    ("LA.eigh(x).eigenvalues", np.stack([S, 2 * S + np.diag(V)])),
    ("LA.eigvalsh(x)", S),
    ("LA.eigvalsh(x, UPLO='u')", H),
    ("LA.svd(x)", A),
    ("LA.svd(x, full_matrices=False)", B),
    ("LA.svd(x, full_matrices=False)", B.T),
    ("LA.svd(x, False)", P),
    ("LA.svd(x, compute_uv=False)", C),
    ("LA.svd(x, hermitian=True)", S - 3.2 * np.eye(3)),
    ("LA.svd(x, compute_uv=False, hermitian=True)", S - 3.2 * np.eye(3)),
    ("LA.svdvals(x)", B),
    ("LA.svdvals(x)", np.stack([P, 2 * P])),
    ("LA.qr(x)", A),
    ("LA.qr(x)", B),
    ("LA.qr(x)", B.T),
    ("LA.qr(x)", P),
    ("LA.qr(x)", P.T),
    ("LA.qr(x, mode='r')", B),
    ("LA.qr(x, mode='complete')", B.T),
    ("LA.qr(x, 'complete').R", B),
    ("LA.norm(x)", V),
    ("LA.norm(x)", A),
    ("LA.norm(x)", STACK),
    ("LA.norm(x)", C),
    ("LA.norm(x, keepdims=True)", A),
    ("LA.norm(x, axis=0)", A),
    ("LA.norm(x, axis=1, keepdims=True)", C),
    ("LA.norm(x, axis=(0, 2))", STACK),
    ("LA.norm(x, 2)", V),
    ("LA.norm(x, 1)", V),
    ("LA.norm(x, np.inf)", V),
    ("LA.norm(x, -np.inf)", V),
    ("LA.norm(x, 3)", V),
    ("LA.norm(x, 2.5, axis=1)", C),
    ("LA.norm(x, -1)", V),
    ("LA.norm(x, 0.5, axis=0, keepdims=True)", A),
    ("LA.norm(x, 'fro')", A),
    ("LA.norm(x, 'nuc')", C),
    ("LA.norm(x, 2)", C),
    ("LA.norm(x, -2)", A),
    ("LA.norm(x, 1)", C),
    ("LA.norm(x, -1)", A),
    ("LA.norm(x, np.inf)", A),
    ("LA.norm(x, -np.inf)", A),
    ("LA.norm(x, 1, axis=(2, 0))", STACK),
    ("LA.norm(x, np.inf, axis=(0, 1), keepdims=True)", STACK),
    ("LA.norm(x, 'nuc', axis=(2, 1), keepdims=True)", STACK),
    ("LA.vector_norm(x)", A),
    ("LA.vector_norm(x, axis=(0, 2), ord=3)", STACK),
    ("LA.vector_norm(x, axis=1, keepdims=True, ord=1)", STACK),
    ("LA.matrix_norm(x)", STACK),
    ("LA.matrix_norm(x, ord='nuc', keepdims=True)", A),
    ("LA.cond(x)", A),
    ("LA.cond(x, -2)", A),
    ("LA.cond(x, 'fro')", STACK),
    ("LA.cond(x, 1)", A),
    ("LA.pinv(x)", B),
    ("LA.pinv(x)", P),
    ("LA.pinv(x, rtol=1e-10)", STACK),
    ("LA.pinv(x, hermitian=True)", S),
    ("LA.matrix_power(x, 5)", A),
    ("LA.matrix_power(x, 3)", C),
    ("LA.matrix_power(x, 1)", A),
    ("LA.matrix_power(x, -2)", STACK),
    ("LA.multi_dot([x, y, x])", B, A[:2]),
    ("LA.multi_dot([V, x, y, V])", A, C),
    ("LA.multi_dot((x, y))", A, V),
    ("LA.multi_dot([x[0], y, y.T, y])", A, B),
    ("LA.tensorsolve(x, y)", TENSOR.reshape(2, 3, 6), B.T),
    ("LA.tensorsolve(x, y, axes=(0, 1))", TENSOR.reshape(3, 2, 6), B.T.ravel()),
    ("LA.tensorinv(x)", TENSOR.reshape(2, 3, 3, 2)),
    ("LA.tensorinv(x, ind=1)", TENSOR.reshape(6, 2, 3)),
    ("LA.matrix_transpose(x)", STACK),
    ("LA.diagonal(x, offset=1)", STACK),
    ("LA.trace(x)", STACK),
    ("LA.trace(x, offset=-1)", A),
]


def program(text, args):
    """The function of ``x`` and ``y`` that a text is."""
    return eval(f"lambda {', '.join('xy'[: len(args)])}: {text}", globals())


@pytest.mark.parametrize("case", PROGRAMS, ids=[f"{i}-{p[0]}" for i, p in enumerate(PROGRAMS)])
def test_linalg(case):
    text, *args = case
    agrees(program(text, args), *args, tolerance=1e-12)


def seen(f, *args):
    """What ``f`` returns while its arguments are traced."""
    found: list = []

    def g(*xs):
        found.append(f(*xs))
        return xs

    vk.vjp(g, *args)
    return found[0]


def test_results_are_named_tuples_as_numpy_gives_them():
    for text in ("LA.eigh(x)", "LA.eig(x)", "LA.svd(x)", "LA.qr(x)", "LA.slogdet(x)"):
        f = program(text, [S])
        assert type(seen(f, S)) is type(f(S))


# ---- eig ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "a", [D, D + 1j * I, D + np.diag(V[:2], 1) - 2 * np.diag(V[1:], -1)], ids="abc"
)
def test_eig(a):
    agrees(LA.eigvals, a, staged=a.dtype.kind == "c", mapped=a.dtype.kind == "c")
    agrees(lambda x: tuple(LA.eig(x)), a, staged=a.dtype.kind == "c", mapped=a.dtype.kind == "c")


def test_eig_of_real_spectra_is_real_where_numpys_is():
    w, v = vk.vjp(lambda x: tuple(LA.eig(x)), D)[0]
    assert w.dtype == v.dtype == LA.eigvals(D).dtype  # complex since NumPy 2.5
    assert np.array_equal(w, LA.eig(D).eigenvalues)
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert vk.vjp(LA.eigvals, rotation)[0].dtype == np.complex128


def test_eig_refuses_what_is_not_finite():
    with pytest.raises(LA.LinAlgError, match="infs or NaNs"):
        vk.vjp(LA.eigvals, np.full((2, 2), np.nan))


# ---- least squares, rank -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [(B, V), (B, A), (B.T, V[:2]), (P, C[:2]), (A, V), (SINGULAR, V), (P.T, B)],
    ids="abcdefg",
)
def test_lstsq(a, b):
    if a is SINGULAR:  # at constant rank: along the factor
        f = lambda x, b: LA.lstsq(x @ x.T, b, rcond=1e-10)[0]
        agrees(f, B, b)
        return
    full = lambda a, b: tuple(y for i, y in enumerate(LA.lstsq(a, b)) if i != 2)
    agrees(full, a, b)
    out, _ = vk.vjp(lambda a: (a, LA.lstsq(a, b)[0]), a)
    rank = seen(lambda a: LA.lstsq(a, b)[2], a)
    assert rank == LA.lstsq(a, b)[2]
    assert type(rank) is type(LA.lstsq(a, b)[2])
    assert out[1].shape == LA.lstsq(a, b)[0].shape


def test_second_derivatives_of_pinv_at_deficient_rank():
    """The rule at constant rank needs no vectors, so that none that vanish are differentiated."""
    agrees(lambda v: LA.pinv(np.outer(v, v[::-1])), V)
    agrees(lambda v: LA.pinv(np.outer(v, v) * np.ones((2, 1, 1))), V)


def test_pinv_at_constant_rank():
    agrees(lambda x: LA.pinv(x @ x.T, rcond=1e-10), B)
    agrees(lambda x: LA.pinv(x @ x.T, 1e-10, True), B)
    agrees(lambda x: LA.pinv(x, rcond=0.7), STACK)
    agrees(lambda x: LA.lstsq(x, V[:3], rcond=0.3)[0], A)
    limits = np.array([1e-10, 0.8])  # the second matrix loses all but its largest singular value
    agrees(lambda x: LA.pinv(np.stack([x, 2 * x]), rcond=limits), B)
    agrees(lambda x: LA.pinv(np.stack([x, 2 * x]), rtol=x[0, 0] ** 2 * limits), B)
    pairs = vk.vmap(LA.pinv)(np.stack([B, 2 * B]), limits)
    np.testing.assert_allclose(pairs, LA.pinv(np.stack([B, 2 * B]), limits))
    assert vk.jit(vk.grad(lambda r, x: np.sum(LA.pinv(x, rtol=r))))(0.5, B) == 0


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("values", [[2.0, 2.0, 0.1], [2.0, 0.1, 0.1]])
def test_derivatives_of_pinv_at_equal_values_of_which_some_are_dropped(values, kind):
    """To third order: they need no vectors, neither of what is kept nor of what is dropped."""
    x = ((Q5[:, :3] * values) @ LA.qr(A).Q).astype(kind)
    x = x + 0.0j if kind is complex else x
    f = lambda x: LA.pinv(x, rcond=0.3)
    agrees(f, x, order=3)
    agrees(lambda x: f(x.T), x)
    direction = np.cos(np.arange(15.0)).reshape(5, 3)
    for solve in (lambda x: f(x) @ Q5[:, 3:], lambda x: LA.lstsq(x, Q5[:, 3:], rcond=0.3)[0]):
        gradient = vk.grad(lambda x, solve=solve: np.real(np.sum(np.sin(solve(x)))))
        along = vk.grad(lambda x, g=gradient: np.real(np.sum(g(x) * direction)))
        h = 1e-5
        wanted = (gradient(x + h * direction) - gradient(x - h * direction)) / (2 * h)
        np.testing.assert_allclose(along(x), wanted, atol=1e-8)


def test_matrix_rank():
    both = lambda x: (LA.matrix_rank(x), LA.matrix_rank(x @ LA.matrix_transpose(x), None, True))
    x = np.stack([SINGULAR, A])
    for rank, wanted in zip(seen(both, x), both(x), strict=True):
        assert rank.tolist() == wanted.tolist() == [2, 3]
        assert rank.dtype == wanted.dtype
    assert vk.make_ir(LA.matrix_rank)(SINGULAR)(SINGULAR)[0] == 2
    with pytest.raises(ValueError, match="both"):
        vk.vjp(lambda x: LA.matrix_rank(x, 0.1, rtol=0.1) * x, A)


def test_reflections_of_tiny_and_huge_matrices():
    """Their squares are beyond the range of numbers."""
    for size in (1e-300, 1e300):
        x = size * A
        raw = lambda x: LA.qr(x, mode="raw")
        for got in (vk.vjp(raw, x)[0], vk.jit(raw)(x)):
            for a, b in zip(got, raw(x), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-13)


def test_cond_of_singular_matrices_is_infinite():
    for p in (None, 1, "fro", -2):
        out, _ = vk.vjp(lambda x, p=p: LA.cond(x, p), np.zeros((2, 2)))
        assert out == LA.cond(np.zeros((2, 2)), p)
    small = np.arange(18.0).reshape(2, 3, 3) * 1e-300
    for order in (1, "fro", -1, np.inf):
        f = lambda x, p=order: LA.cond(x, p)
        with np.errstate(all="ignore"):
            for got in (vk.vjp(f, small)[0], vk.jit(f)(small), vk.vmap(f)(small)):
                assert np.all(got == np.inf)
    with pytest.raises(LA.LinAlgError, match="empty"):
        vk.vjp(LA.cond, np.zeros((0, 0)))


# ---- kinks and singular points -----------------------------------------------------------------


@pytest.mark.parametrize("order", [None, 1, 2, 3, 1.5, np.inf, -np.inf])
def test_gradient_of_vector_norms_at_zero_is_zero(order):
    x = np.zeros(3)
    assert np.array_equal(vk.grad(lambda x: LA.norm(x, order))(x), x)
    assert np.array_equal(vk.jvp(lambda x: LA.norm(x, order), (x,), (V,))[1], 0.0)


@pytest.mark.parametrize("order", ["fro", "nuc", 2, -2, 1, -1, np.inf, -np.inf])
def test_gradient_of_matrix_norms_at_zero_is_zero(order):
    x = np.zeros((3, 2))
    assert np.array_equal(vk.grad(lambda x: LA.norm(x, order))(x), x)


def test_norms_of_rows_of_which_some_vanish():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert np.allclose(vk.grad(lambda x: np.sum(LA.norm(x, axis=1)))(x), [[0.6, 0.8], [0.0, 0.0]])
    hessian = vk.hessian(lambda x: LA.norm(x))(np.zeros(2))
    assert np.array_equal(hessian, np.zeros((2, 2)))


def test_nuclear_norm_of_a_matrix_of_lower_rank():
    """The subgradient of least norm: U Vᴴ over the singular values that do not vanish."""
    u, s, vh = LA.svd(SINGULAR)
    got = vk.grad(lambda x: LA.norm(x, "nuc"))(SINGULAR)
    assert np.allclose(got, u[:, :2] @ vh[:2], atol=1e-12)


def test_ties_of_eigenvalues_share_equally():
    eye = np.eye(3)
    assert np.allclose(vk.grad(lambda x: LA.eigvalsh(x)[-1])(eye), eye / 3)
    assert np.allclose(vk.grad(lambda x: LA.eigh(x).eigenvalues[-1])(eye), eye / 3)
    assert np.allclose(vk.grad(lambda x: LA.norm(x, 2))(2 * eye), eye / 3)
    t = vk.jvp(lambda x: np.sum(LA.eigvalsh(x) ** 2), (eye,), (S,))[1]
    assert np.isclose(t, 2 * np.trace(S))


def hermitian_part(x):
    return (x + np.conj(x.T)) / 2


# A function of the values, and the same as one of the matrix.
BOTH_WAYS = {
    "cubes": (lambda x: np.sum(LA.eigvalsh(x) ** 3), lambda x: np.trace(x @ x @ x)),
    "sum": (lambda x: np.sum(LA.eigvalsh(x)), np.trace),
    "square of a sum": (lambda x: np.sum(LA.eigvalsh(x)) ** 2, lambda x: np.trace(x) ** 2),
    "logarithms": (lambda x: np.sum(np.log(LA.eigvalsh(x))), lambda x: LA.slogdet(x).logabsdet),
    "fourth powers": (lambda x: np.sum(LA.svdvals(x) ** 4), lambda x: np.trace(x @ x @ x @ x)),
    "nuclear norm": (lambda x: LA.norm(x, "nuc") ** 2, lambda x: np.trace(x) ** 2),
}
PLACES = {"all": 2 * np.eye(3), "two": np.diag([2.0, 2.0, 5.0])}
DIRECTIONS = [S, A + A.T, np.eye(3)[::-1], H, 1j * (I - I.T)]


def second(f, direction):
    """The gradient of a directional derivative, in Hermitian matrices."""
    gradient = vk.grad(lambda x: np.real(f(hermitian_part(x))))
    return vk.grad(lambda x: np.real(np.sum(gradient(x) * np.conj(direction))))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", BOTH_WAYS)
def test_second_derivatives_where_values_agree(name, place, direction):
    of_values, of_matrix = (second(f, direction) for f in BOTH_WAYS[name])
    x = PLACES[place].astype(direction.dtype)
    wanted = of_matrix(x)
    np.testing.assert_allclose(of_values(x), wanted, atol=1e-7)
    np.testing.assert_allclose(vk.jit(of_values)(x), wanted, atol=1e-7)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_second_derivatives_of_a_value_beside_some_that_agree(direction):
    """Of w = 5 beside 2 twice, D along vectors v_j has the second derivative 2 |v_jᴴ D v|² / 3."""
    x = PLACES["two"].astype(direction.dtype)
    d = hermitian_part(direction)
    wanted = np.zeros_like(d)
    wanted[2, :2], wanted[:2, 2] = d[2, :2] / 3, d[:2, 2] / 3
    f = second(lambda x: LA.eigvalsh(x)[2], direction)
    np.testing.assert_allclose(f(x), wanted, atol=1e-10)


def at_its_minimum(values):
    """What it depends on does not show in its gradient, which is zero."""
    return lambda x: np.sum(np.square(values(x) - 2))


@pytest.mark.parametrize("values", [LA.eigvalsh, lambda x: LA.eigh(x).eigenvalues, LA.svdvals])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_second_derivatives_that_would_need_a_basis(values, direction):
    f = second(at_its_minimum(values), direction)
    x = PLACES["all"].astype(direction.dtype)
    with pytest.raises(NotDifferentiableError, match="agree to rounding"):
        f(x)
    with pytest.warns(RuntimeWarning, match="agree to rounding"):
        vk.jit(f)(x)


@pytest.mark.parametrize("direction", [S, np.diag([1.0, 2.0, 3.0])])
def test_second_derivatives_along_which_values_part(direction):
    f = lambda x: np.sum(LA.eigvalsh(x) ** 3)
    along = lambda x: vk.jvp(f, (x,), (direction,))[1]
    for outer in (vk.grad(f), along):
        with pytest.raises(NotDifferentiableError, match="agree to rounding"):
            vk.jvp(outer, (np.eye(3),), (direction,))
    together = vk.jvp(vk.grad(f), (np.eye(3),), (np.eye(3),))[1]
    assert np.allclose(together, 6 * np.eye(3))
    with pytest.raises(NotDifferentiableError, match="agree to rounding"):
        vk.hessian(lambda x: np.real(np.sum(LA.eigvals(x) ** 3)))(np.eye(3))


# ---- values that are close ---------------------------------------------------------------------

Q5, P5 = (LA.qr(np.random.default_rng(k).normal(size=(5, 5))).Q for k in (5, 6))
D5 = hermitian_part(np.random.default_rng(7).normal(size=(5, 5)))
G5 = hermitian_part(np.random.default_rng(8).normal(size=(5, 5)))
GAPS = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-11, 1e-13, 2.5e-14, 1e-14, 0.0]


def polar(x):
    """The unitary factor, by Newton's iteration: no spectrum is met."""
    for _ in range(14):
        x = (x + LA.inv(x).T) / 2
    return x


def below(x):
    """The projection on what belongs to eigenvalues below 3, by Newton's iteration for the sign."""
    y = x - 3 * np.eye(len(x))
    for _ in range(16):
        y = (y + LA.inv(y)) / 2
    return (np.eye(len(x)) - y) / 2


def through_eigh(f, columns=slice(None)):
    def g(x):
        w, v = LA.eigh(x)
        w, v = w[columns], v[:, columns]
        return np.sum(G5 * ((v * f(w)) @ v.T))

    return g


def through_svd(f):
    def g(x):
        u, s, vh = LA.svd(x)
        return np.sum(G5 * ((u * f(s)) @ vh))

    return g


def through_eig(x):
    w, v = LA.eig(x)
    return np.real(np.sum(G5 * ((v * w**3) @ LA.inv(v))))


# By the spectrum, the same without it, and whether the matrix is symmetric.
CLOSE: dict[str, tuple[Any, Any, bool]] = {
    "cubes": (lambda x: np.sum(LA.eigvalsh(x) ** 3), lambda x: np.trace(x @ x @ x), True),
    "logdet": (lambda x: np.sum(np.log(LA.eigvalsh(x))), lambda x: LA.slogdet(x)[1], True),
    "nuclear": (lambda x: LA.norm(x, "nuc") ** 2, lambda x: np.sum(polar(x) * x) ** 2, False),
    "fourths": (lambda x: np.sum(LA.svdvals(x) ** 4), lambda x: LA.norm(x @ x.T) ** 2, False),
    "eigvals": (lambda x: np.real(np.sum(LA.eigvals(x) ** 3)), lambda x: np.trace(x @ x @ x), True),
    "cube": (through_eigh(lambda w: w**3), lambda x: np.sum(G5 * (x @ x @ x)), True),
    "projection": (through_eigh(np.ones_like, slice(0, 3)), lambda x: np.sum(G5 * below(x)), True),
    "others": (
        through_eigh(np.ones_like, slice(3, 5)),
        lambda x: np.trace(G5) - np.sum(G5 * below(x)),
        True,
    ),
    "odd": (through_svd(lambda s: s**3), lambda x: np.sum(G5 * (x @ x.T @ x)), False),
    "polar": (through_svd(np.ones_like), lambda x: np.sum(G5 * polar(x)), False),
    "eig": (through_eig, lambda x: np.sum(G5 * (x @ x @ x)), True),
}


def derivatives(f):
    """The first in both modes, and a second along D5 in all orders of modes."""
    gradient = vk.grad(f)
    along = lambda f: lambda x: vk.jvp(f, (x,), (D5,))[1]
    return {
        "reverse": gradient,
        "forward": along(f),
        "reverse, reverse": vk.grad(lambda x: np.sum(gradient(x) * D5)),
        "forward, reverse": along(gradient),
        "reverse, forward": vk.grad(along(f)),
    }


@pytest.mark.parametrize("mode", derivatives(np.sum))
@pytest.mark.parametrize("name", CLOSE)
def test_derivatives_at_close_values_keep_half_of_their_digits_or_raise(name, mode):
    """A chain of three with these gaps beside two others."""
    spectral, direct, symmetric = CLOSE[name]
    over = (lambda f: lambda x: f(hermitian_part(x))) if symmetric else (lambda f: f)
    computed, program = (k(derivatives(over(spectral))[mode]) for k in (lambda f: f, vk.jit))
    wanted = derivatives(over(direct))[mode]
    for gap in GAPS:
        w = np.array([1.0, 1 + gap, 1 + 3 * gap, 5.0, 7.0])
        x = (Q5 * w) @ Q5.T if symmetric else (Q5 * w) @ P5.T
        right = wanted(x)
        close = pytest.approx(right, rel=0, abs=1e-5 * abs(right).max())
        try:
            got = computed(x)
        except NotDifferentiableError:
            assert gap < 1e-2
            with pytest.warns(RuntimeWarning, match="of a spectrum"):
                program(x)
        else:
            assert got == close
            with warnings.catch_warnings(action="error"):
                assert program(x) == close


WELL_POSED = [
    ("reverse", "cube", 0.0),
    ("reverse", "projection", 0.0),
    ("reverse", "odd", 0.0),
    ("reverse", "polar", 0.0),
    ("reverse, reverse", "cubes", 0.0),
    ("reverse, reverse", "logdet", 0.0),
    ("reverse, reverse", "nuclear", 0.0),
    ("reverse, reverse", "fourths", 0.0),
    ("forward, reverse", "logdet", 1e-6),
    ("reverse, reverse", "cube", 1e-3),
]


@pytest.mark.parametrize(("mode", "name", "least"), WELL_POSED)
def test_derivatives_at_close_values_that_do_not_raise(mode, name, least):
    spectral, _, symmetric = CLOSE[name]
    f = derivatives((lambda x: spectral(hermitian_part(x))) if symmetric else spectral)[mode]
    for gap in GAPS:
        w = np.array([1.0, 1 + gap, 1 + 3 * gap, 5.0, 7.0])
        if gap >= least:
            f((Q5 * w) @ (Q5 if symmetric else P5).T)


@pytest.mark.parametrize("f", [np.log, np.sqrt, np.reciprocal, np.ones_like])
@pytest.mark.parametrize("ratio", [0.5, 0.1])
def test_values_of_different_sizes_are_not_close(f, ratio):
    w = 3.0 * ratio ** np.arange(5)
    for g, x in ((through_eigh(f), (Q5 * w) @ Q5.T), (through_svd(f), (Q5 * w) @ P5.T)):
        for derivative in derivatives(g).values():
            assert np.isfinite(derivative(x)).all()


def triangle(g):
    """The gradient in the lower triangle that is read, from that of a symmetric matrix."""
    return np.tril(g + g.T) - np.diag(np.diag(g))


G = A + 0.3


@pytest.mark.parametrize(
    ("a", "g"),
    [(np.eye(3), G), (np.diag([2.0, 2.0, 5.0]), G), (S, G)],
    ids=["identity", "pair", "simple"],
)
def test_functions_of_a_matrix_through_its_spectrum(a, g):
    """V f(w) Vᵀ does not depend on the basis of equal eigenvalues, nor does its gradient."""
    q = LA.qr(A).Q
    a = q @ a @ q.T
    a = (a + a.T) / 2

    def root(x):
        w, v = LA.eigh(x)
        return (v * np.sqrt(w)) @ v.T

    got = vk.grad(lambda x: np.sum(g * root(x)))(a)
    r = root(a)  # d(r r) = dr r + r dr: a Sylvester equation for the adjoint
    n = len(a)
    k = np.kron(r, np.eye(n)) + np.kron(np.eye(n), r)
    wanted = LA.solve(k, ((g + g.T) / 2).ravel()).reshape(n, n)
    assert np.allclose(got, triangle(wanted), atol=1e-9)


def test_truncated_spectra_of_low_rank_have_gradients():
    """Eigenvectors of the eigenvalue that is zero many times are not used, and do no harm."""
    low = B @ B.T * 1.0
    low = np.block([[low, np.zeros((3, 2))], [np.zeros((2, 5))]])

    def f(x):
        w, v = LA.eigh(x)
        return np.sum((v[:, -2:] * w[-2:] ** 2) @ v[:, -2:].T * np.arange(25.0).reshape(5, 5))

    g = np.arange(25.0).reshape(5, 5)
    got = vk.grad(f)(low)
    s = (g + g.T) / 2
    assert np.allclose(got, triangle(s @ low + low @ s), atol=1e-8)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_powers_of_singular_values_that_vanish_to_rounding(rank):
    """U s³ Vᵀ = A Aᵀ A, whatever the basis of what A maps to zero is."""
    u, v = LA.qr(A).Q, LA.qr(A.T).Q
    low = (u[:, :rank] * [2.0, 1.0][:rank]) @ v[:rank]

    def cube(x):
        u, s, vh = LA.svd(x)
        return np.sum((u * s**3) @ vh * G)

    wanted = vk.grad(lambda x: np.sum(x @ x.T @ x * G))(low)
    for grad in (vk.grad(cube), vk.jit(vk.grad(cube))):
        np.testing.assert_allclose(grad(low), wanted, atol=1e-13)


@pytest.mark.parametrize(
    "text",
    [
        "LA.eigh(x).eigenvectors[0, 1]",
        "np.sum(LA.eigh(x).eigenvectors[:, 0] * V)",
        "np.sum(LA.eig(x).eigenvectors * V)",
        "np.sum(LA.svd(x).U[:, 0] * V)",
    ],
)
def test_vectors_of_equal_values_have_no_derivative(text):
    f = program(text, [0])
    with pytest.raises(NotDifferentiableError, match="agree to rounding"):
        vk.grad(lambda x: np.real(f(x)))(np.eye(3) + 0.0)
    with pytest.raises(NotDifferentiableError, match="agree to rounding"):
        vk.jvp(f, (np.eye(3),), (A,))


@pytest.mark.parametrize(
    "compiled", [lambda f: vk.jit(f), lambda f: vk.make_ir(f)(S)], ids=["jit", "make_ir"]
)
@pytest.mark.parametrize(
    "text",
    [
        "LA.eigh(x).eigenvectors[0, 1]",
        "np.real(np.sum(LA.eig(x).eigenvectors * V))",
        "np.sum(LA.svd(x).U[:, 0] * V)",
    ],
)
def test_programs_warn_where_vectors_have_no_derivative(text, compiled):
    """At the line that calls them; what they give is finite, and elsewhere they do not warn."""
    f = vk.grad(program(text, [0]))
    run = compiled(f)
    np.testing.assert_allclose(np.reshape(run(S), (3, 3)), f(S), rtol=1e-10, atol=1e-10)
    with pytest.warns(RuntimeWarning, match="agree to rounding") as caught:
        got = run(np.eye(3))
    assert {w.filename for w in caught} == {__file__}
    assert np.isfinite(got).all()


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.real(np.prod(LA.eigvals(x))),
        lambda x: np.real(np.sum(LA.eig(x).eigenvectors)),
        lambda x: np.real(np.roots(np.stack([1.0, -2 * x[0, 1], x[0, 1] ** 2]))[0]),
    ],
    ids=["eigvals", "eig", "roots"],
)
def test_defective_matrices_have_no_derivative(f):
    """There the eigenvalues move like the root of a perturbation."""
    q = LA.qr(A).Q
    block = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    for x in (block, q @ block @ q.T):
        with pytest.raises(NotDifferentiableError, match="defective"):
            vk.grad(f)(x)
        with pytest.raises(NotDifferentiableError, match="defective"):
            vk.jvp(f, (x,), (A,))


def test_factors_of_dependent_columns_have_no_derivative():
    x = np.outer(V, V)
    f = lambda x: np.sum(LA.qr(x).Q * A)
    with pytest.raises(NotDifferentiableError, match="dependent columns"):
        vk.grad(f)(x)
    run = vk.jit(vk.grad(f))
    with pytest.warns(RuntimeWarning, match="dependent columns"):
        assert np.isfinite(run(x)).all()


def test_programs_warn_of_other_ill_posed_vectors():
    run = vk.jit(vk.grad(lambda x: np.real(np.prod(LA.eigvals(x)))))
    with pytest.warns(RuntimeWarning, match="defective"):
        assert np.isfinite(run(np.array([[1.0, 1.0], [0.0, 1.0]]))).all()
    tall = np.arange(5.0)[:, None] ** 2 + 1
    full = vk.jit(vk.grad(lambda x: LA.qr(x, "complete").Q[0, 1]))
    with pytest.warns(RuntimeWarning, match="any basis of a space"):
        assert np.isfinite(full(tall)).all()
    vanishing = vk.jit(vk.grad(lambda x: np.sum(LA.svd(x).U * A)))
    with pytest.warns(RuntimeWarning, match=r"vanish|agree"):
        assert np.isfinite(vanishing(np.outer(V, V))).all()


def test_vectors_of_vanishing_singular_values_have_no_derivative():
    x = np.outer(V, V)
    with pytest.raises(NotDifferentiableError, match=r"vanish|agree"):
        vk.grad(lambda x: np.sum(LA.svd(x).U * A))(x)
    f = lambda x: np.sum(LA.svd(x).U[:, 0] * LA.svd(x).Vh[0] * V)
    assert np.isfinite(vk.grad(f)(x)).all()


def test_singular_matrices_in_a_branch_that_is_not_taken():
    def f(x):
        return np.sum(np.where([True, False], LA.slogdet(x).logabsdet, 0.0))

    x = np.stack([A, np.zeros((3, 3))])
    got = vk.grad(f)(x)
    assert np.allclose(got[0], LA.inv(A).T)
    assert np.array_equal(got[1], np.zeros((3, 3)))


def test_full_factors_as_projections():
    """What does not depend on the basis of the complement is differentiated, others refused."""

    def distance(q, rank):
        rest = q[:, rank:]
        return np.sum((rest @ rest.T) * A)

    agrees(lambda x: distance(LA.qr(x, "complete").Q, 2), B)
    agrees(lambda x: distance(LA.svd(x).U, 2), B)
    agrees(lambda x: distance(LA.svd(x.T).Vh.T, 2), B)
    for f in (lambda x: LA.qr(x, "complete").Q[0, 2], lambda x: LA.svd(x).U[0, 2]):
        agrees(f, B)  # one column more: its sign is all the freedom there is
    tall = np.arange(5.0)[:, None] ** 2 + 1
    with pytest.raises(NotDifferentiableError, match="any basis of a space"):
        vk.grad(lambda x: LA.qr(x, "complete").Q[0, 1])(tall)


# ---- one triangle ------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [S, H], ids=["real", "complex"])
@pytest.mark.parametrize("upper", [False, True])
def test_one_triangle_is_read_and_differentiated(a, upper):
    other = np.tril if upper else np.triu
    for f in (
        lambda x: np.sum(abs(LA.cholesky(x, upper=upper))),
        lambda x: np.sum(LA.eigvalsh(x, "U" if upper else "L") ** 3),
    ):
        moved = a + other(np.full((3, 3), 5.0), 1 - 2 * upper)
        assert f(moved) == f(a)
        got = vk.grad(f)(moved)
        assert np.array_equal(other(got, 1 - 2 * upper), np.zeros((3, 3)))
        assert np.allclose(np.diag(got).imag, 0)


# ---- large matrices, with SciPy's routines and without -----------------------------------------


@pytest.fixture(params=[True, False], ids=["scipy", "numpy"])
def scipy(request, monkeypatch):
    """With SciPy and as if it were not installed."""
    if request.param:
        pytest.importorskip("scipy")
    else:
        monkeypatch.setattr(lapack, "_scipy", lambda module: None)
    return request.param


N = lapack.LARGE + 6


def large(kind=float, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, N)) / np.sqrt(N)
    return x + 1j * rng.normal(size=(N, N)) / np.sqrt(N) if kind is complex else x


def checked(f, x, tolerance=1e-6):
    """Gradient of a scalar against a difference along a random direction, to first order."""
    rng = np.random.default_rng(1)
    t = rng.normal(size=x.shape)
    t = t + 1j * rng.normal(size=x.shape) if x.dtype.kind == "c" else t
    t = (t / np.max(abs(t))).astype(x.dtype)
    got = np.sum(vk.grad(f)(x) * t).real
    h = 1e-5
    wanted = (f(x + h * t) - f(x - h * t)) / (2 * h)
    assert np.isclose(got, wanted, rtol=tolerance, atol=tolerance)
    assert np.isclose(vk.jvp(f, (x,), (t,))[1], wanted, rtol=tolerance, atol=tolerance)
    staged = vk.make_ir(vk.grad(f))(x)(x)[0]
    assert np.allclose(staged, vk.grad(f)(x), rtol=1e-9, atol=1e-9)


def size(x):
    return np.sum(np.real(x) ** 2 + np.imag(x) ** 2) if x.dtype.kind == "c" else np.sum(x * x)


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("shape", ["full", "lower", "upper"])
def test_large_equations(scipy, kind, shape):
    a = large(kind) + 2 * np.eye(N)
    keep: Any = {"full": np.copy, "lower": np.tril, "upper": np.triu}[shape]
    a = keep(a)
    b = large(kind, 1)[:, :3]
    for f in (
        lambda x: size(LA.solve(keep(x), b)),
        lambda x: size(LA.solve(keep(x).T, x[:, 0])),
        lambda x: size(LA.inv(keep(x))),
    ):
        value, _ = vk.vjp(f, a)
        assert np.isclose(value, f(a), rtol=1e-12)
        checked(f, a)


def test_large_equations_of_mixed_types(scipy):
    a, b = large() + 2 * np.eye(N), large(complex)[:, :2]
    checked(lambda x: size(LA.solve(x, b)), a)
    checked(lambda x: size(LA.solve(x, b.real.astype(np.float32))), a)
    checked(lambda x: size(LA.solve(a, x)), b)
    single = vk.grad(lambda x: size(LA.solve(x, b[:, 0].real.astype(np.float32))))
    assert single(a.astype(np.float32)).dtype == np.float32


def test_large_singular_matrices(scipy):
    for a in (np.zeros((N, N)), np.tril(large()) - np.diag(np.diag(large())), np.ones((N, N))):
        with pytest.raises(LA.LinAlgError, match="Singular"):
            vk.vjp(lambda x: LA.solve(x, np.ones(N)), a)
    with pytest.raises(LA.LinAlgError, match="not positive definite"):
        vk.vjp(LA.cholesky, -np.eye(N))


@pytest.mark.parametrize("kind", [float, complex])
def test_gaussian_log_likelihoods(scipy, kind):
    """Quadratic form and logarithm of the determinant through a Cholesky factor."""
    x = large(kind)
    a = x @ x.conj().T + np.eye(N)
    y = large(kind, 2)[:, 0]

    def one_solve(a):
        l = LA.cholesky(a)  # noqa: E741  # the factor L
        z = LA.solve(l, y)
        return -0.5 * size(z) - np.sum(np.log(np.real(np.diag(l))))

    def two_solves(a):
        l = LA.cholesky(a)  # noqa: E741  # the factor L
        alpha = LA.solve(np.conjugate(l.T), LA.solve(l, y))
        return -0.5 * np.real(np.conjugate(y) @ alpha) - np.sum(np.log(np.real(np.diagonal(l))))

    def general_solve(a):
        l = LA.cholesky(a)  # noqa: E741  # the factor L
        quadratic = np.real(np.conjugate(y) @ LA.solve(a, y))
        return -0.5 * quadratic - 0.5 * LA.slogdet(a).logabsdet + 0 * l[0, 0].real

    inverse = LA.inv(a)
    alpha = inverse @ y
    symmetric = 0.5 * (np.outer(alpha.conj(), alpha) - inverse.T)
    wanted = 2 * np.tril(symmetric) - np.diag(np.diag(symmetric))
    for f in (one_solve, two_solves):
        assert np.allclose(vk.grad(f)(a), wanted, rtol=1e-9, atol=1e-9)
        checked(f, a)
    checked(general_solve, a)


@pytest.mark.parametrize("kind", [float, complex])
def test_large_cholesky_in_general(scipy, kind):
    x = large(kind)
    a = x @ x.conj().T + np.eye(N)
    weights = large(kind, 3)
    checked(lambda a: size(LA.cholesky(a) * weights), a)
    checked(lambda a: size(LA.solve(LA.cholesky(a), weights)), a)
    checked(lambda a: size(LA.solve(LA.cholesky(a), weights[:, :6])), a)
    checked(lambda a: size(LA.solve(LA.cholesky(a), weights[:, :3]) * weights[:, 4:7]), a)
    checked(lambda a: np.sum(np.real(np.diag(LA.cholesky(a))) ** 3), a)

    def together(a):
        l = LA.cholesky(a)  # noqa: E741  # the factor L
        z = LA.solve(l, weights[:, :6])
        return size(z) + size(z[:, :2] * weights[:, 4:6]) - np.sum(np.log(np.real(np.diag(l))))

    checked(together, a)


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "LA.solve(x, V)",
        "LA.inv(x)",
        "LA.det(x)",
        "LA.slogdet(x)",
        "LA.cholesky(x)",
        "LA.eigh(x)",
        "LA.eig(x)",
        "LA.eigvals(x)",
        "LA.eigvalsh(x)",
        "LA.matrix_power(x, 2)",
        "LA.inv(x[0])",
        "LA.svd(x[0])",
        "LA.qr(x[0])",
        "LA.pinv(x[0])",
        "LA.cholesky(-x[:, :2])",
        "LA.solve(x[:, :2] * 0, V[:2])",
        "LA.inv(x[:, :2] * 0)",
        "LA.multi_dot([x, x, x[None]])",
        "LA.lstsq(x[None], V)",
        "LA.lstsq(x, V[:2])",
        "LA.tensorsolve(x, V[:2])",
    ],
)
def test_errors_are_numpys(text):
    f = program(text, [0])
    x = B[:, ::-1].copy()
    with pytest.raises(LA.LinAlgError) as wanted:
        f(x)
    with pytest.raises(LA.LinAlgError) as got:
        vk.jvp(f, (x,), (x,))
    if "lstsq" not in text and "tensor" not in text:
        assert str(got.value) == str(wanted.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("LA.eigh(x, 'X')", "UPLO"),
        ("LA.qr(x, 'wrong')", "Unrecognized mode"),
        ("LA.norm(x, 'wrong')", "norm order"),
        ("LA.norm(x[0], 'fro')", "norm order"),
        ("LA.norm(x, axis=(0, 0))", "Duplicate axes"),
        ("LA.norm(x, axis=3)", "axis 3 is out of bounds"),
        ("LA.norm(np.stack([x, x]), 2)", "Improper number of dimensions"),
        ("LA.multi_dot([x])", "at least two"),
        ("LA.tensorinv(x, ind=0)", "Invalid ind"),
        ("LA.pinv(x, 0.1, rtol=0.1)", "both"),
    ],
)
def test_values_that_numpy_refuses(text, match):
    f = program(text, [0])
    with pytest.raises(ValueError, match=match):
        f(A)
    with pytest.raises(ValueError, match=match):
        vk.jvp(f, (A,), (A,))


def test_what_is_not_supported_is_refused():
    with pytest.raises(UnsupportedError, match=r"np\.linalg"):
        vk.jvp(lambda x: LA.qr(x, "full"), (A,), (A,))  # type: ignore[call-overload]


def test_half_precision_is_refused_as_numpy_does():
    with pytest.raises(TypeError, match="float16"):
        vk.vjp(LA.inv, A.astype(np.float16))
    with pytest.raises(TypeError, match="float16"):
        vk.make_ir(LA.inv)(A.astype(np.float16))


@pytest.mark.parametrize("text", ["LA.solve(x, x)", "LA.cholesky(x)", "LA.eigh(x)", "LA.det(x)"])
def test_matrices_without_elements(text):
    f = program(text, [0])
    x = np.zeros((0, 0))
    out, pullback = vk.vjp(lambda x: np.sum(f(x)[0] if "eigh" in text else f(x)), x)
    assert out == np.sum(f(x)[0] if "eigh" in text else f(x))
    assert pullback(np.float64(1.0))[0].shape == (0, 0)
