"""What the generated laws do not see: factors used again, products kept as such, special points."""

import subprocess
import sys

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import NotDifferentiableError
from vjpkit.ops import lapack, linalg
from vjpkit.ops.spectra import generic, spectrum_mean, spectrum_pull, spectrum_push
from vjpkit.ops.vectors import phase_rows
from vjpkit.test_util import check_grads

LA = np.linalg
RNG = np.random.default_rng(0)
N = lapack.LARGE + 1
X = RNG.normal(size=(N, N)) / np.sqrt(N)
SPD = X @ X.T + np.eye(N)
Y = RNG.normal(size=N)
A = np.array([[1.3, -1.2, 2.5], [1.7, 0.4, -0.6], [0.2, 0.9, -1.1]])
B = np.array([[0.5, 1.1], [-0.7, 0.2], [1.3, -0.9]])


def names(f, *args):
    """The primitives of a staged function."""
    return [e.primitive.name for e in vk.make_ir(f)(*args).program.equations]


def likelihood(k):
    factor = LA.cholesky(k)
    z = LA.solve(factor, Y)
    return -0.5 * np.sum(z * z) - np.sum(np.log(np.diag(factor)))


# ---- work that is done once --------------------------------------------------------------------


def test_scipy_is_not_imported_for_small_matrices():
    program = (
        "import sys, numpy as np, vjpkit as vk\n"
        "vk.grad(lambda a: np.sum(np.linalg.solve(a, np.linalg.inv(a))))(np.eye(3))\n"
        "assert not any(name.startswith('scipy') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_factorization_serves_the_equation_and_its_transpose():
    found = names(vk.grad(lambda a: np.sum(LA.solve(a, Y) ** 2)), SPD)
    assert found.count("lu") == 1
    assert found.count("solve") == 2


def test_a_batch_of_right_hand_sides_is_one_equation():
    ys = RNG.normal(size=(5, N))
    mapped = vk.vmap(lambda y: LA.solve(SPD, y))
    assert names(mapped, ys).count("solve") == 1
    assert np.allclose(mapped(ys), LA.solve(SPD, ys.T).T)


def test_a_likelihood_pulls_back_without_a_product_of_matrices():
    """Nothing of cubic cost but the factor and one equation that the kernel answers by potri."""
    found = names(vk.grad(likelihood), SPD)
    assert found.count("cholesky") == found.count("cholesky_pull") == 1
    program = vk.make_ir(vk.grad(likelihood))(SPD).program
    (pull,) = [e for e in program.equations if e.primitive.name == "cholesky_pull"]
    assert [v.aval.shape for v in pull.inputs] == [(N, N), (N, N), (N, 1), (N, 1)]
    products = [e for e in program.equations if e.primitive.name in ("matmul", "contract")]
    assert all(e.outputs[0].aval.size <= N for e in products)


def test_a_transposed_factor_keeps_products_as_such():
    def f(k):
        factor = LA.cholesky(k)
        return Y @ LA.solve(factor.T, LA.solve(factor, Y))

    program = vk.make_ir(vk.grad(f))(SPD).program
    (pull,) = [e for e in program.equations if e.primitive.name == "cholesky_pull"]
    assert len(pull.inputs) == 6
    alpha = LA.solve(SPD, Y)
    wanted = -np.outer(alpha, alpha)
    got = vk.grad(f)(SPD)
    assert np.allclose(got, 2 * np.tril(wanted) - np.diag(np.diag(wanted)))


def test_many_equations_with_one_matrix():
    """Their products are summed before they take more memory than the sum."""
    a = SPD[:8, :8]
    ys = RNG.normal(size=(100, 8))
    f = lambda a: sum(np.sum(LA.solve(a, y) ** 2) for y in ys)
    x = LA.solve(a, ys.T)
    wanted = -2 * LA.solve(a.T, x) @ x.T
    assert np.allclose(vk.grad(f)(a), wanted)
    mixed = lambda a: f(a) + sum(np.sum((a @ y) ** 2) for y in ys[:3]) + a[0, 1]
    more = 2 * (a @ ys[:3].T) @ ys[:3]
    more[0, 1] += 1
    assert np.allclose(vk.grad(mixed)(a), wanted + more)
    assert np.allclose(vk.make_ir(vk.grad(mixed))(a)(a)[0], wanted + more)


@pytest.mark.parametrize("mixed", [False, True])
def test_products_that_do_not_fit_the_factor(mixed):
    """A complex right-hand side of a real factor: multiplied out, with the real part."""

    def f(k):
        factor = LA.cholesky(k)
        z = LA.solve(factor, Y * (1 + 2j))
        z = z + LA.solve(factor, Y) if mixed else z
        return np.sum(np.real(z) ** 2 + np.imag(z) ** 2)

    factor = 8.0 if mixed else 5.0
    alpha = LA.solve(SPD, Y)
    wanted = -factor * np.outer(alpha, alpha)
    assert np.allclose(vk.grad(f)(SPD), 2 * np.tril(wanted) - np.diag(np.diag(wanted)))


def test_second_derivatives_of_a_likelihood():
    k = SPD[:4, :4]
    f = lambda t: likelihood_of(k + t[0] * np.eye(4) + t[1] * np.diag(Y[:4] ** 2))

    def likelihood_of(k):
        factor = LA.cholesky(k)
        z = LA.solve(factor, Y[:4])
        return -0.5 * np.sum(z * z) - np.sum(np.log(np.diag(factor)))

    g = vk.grad(f)
    t, h = np.array([0.3, 0.2]), 1e-5
    wanted = np.stack([(g(t + h * e) - g(t - h * e)) / (2 * h) for e in np.eye(2)])
    assert np.allclose(vk.hessian(f)(t), wanted, atol=1e-7)
    assert np.allclose(vk.jacrev(g)(t), wanted, atol=1e-7)


# ---- triangles ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda x: x, -1),
        (np.tril, -2),
        (np.triu, -3),
        (lambda x: np.tril(x) * (np.arange(len(x)) != 3), -1),
        (lambda x: np.tril(x) + 1e-300 * (np.arange(len(x)) == 5) * (x != 0), -1),
        (np.diag, None),
        (lambda x: np.where(np.triu(np.ones_like(x), 1) > 0, np.nan, x), -1),
    ],
    ids=["full", "lower", "upper", "singular", "nearly", "diagonal", "nan"],
)
def test_triangles_are_recognised_exactly(make, kind):
    a = X + 2 * np.eye(N)
    if kind is None:
        a, kind = np.diag(np.arange(1.0, N + 1)), -2
        assert lapack._triangle(a) == kind
        return
    assert lapack._triangle(make(a)) == kind


def test_factors_of_many_or_small_matrices_are_none():
    for a in (A, np.stack([SPD, SPD])):
        factors, pivots = lapack.factor(a)
        assert factors is a
        assert (pivots == -1).all()


# ---- cofactors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("kind", [float, complex])
def test_cofactors_of_singular_matrices(rank, kind):
    """The determinant is a polynomial: its derivatives exist everywhere."""
    left, right = RNG.normal(size=(4, rank)), RNG.normal(size=(rank, 4))
    a = left @ right * (1 + (0.5j if kind is complex else 0))
    t, u = RNG.normal(size=(2, 4, 4))

    def minor(a, i, j):
        keep = range(4)
        return (-1) ** (i + j) * LA.det(
            a[[k for k in keep if k != i]][:, [k for k in keep if k != j]]
        )

    wanted = np.array([[minor(a, i, j) for j in range(4)] for i in range(4)])
    assert np.allclose(linalg.cofactors(a), wanted, atol=1e-12)
    h = 1e-4
    along = (linalg.cofactors(a + h * t) - linalg.cofactors(a - h * t)) / (2 * h)
    assert np.allclose(linalg.cofactors_push(a, t), along, atol=1e-6)
    symmetric = np.sum(u * linalg.cofactors_push(a, t)), np.sum(t * linalg.cofactors_push(a, u))
    assert np.isclose(*symmetric)


def test_cofactors_of_a_batch_of_which_some_are_singular():
    a = np.stack([A, B @ B.T, np.zeros((3, 3))])
    got = linalg.cofactors(a)
    for x, y in zip(a, got, strict=True):
        assert np.allclose(linalg.cofactors(x), y)


def test_third_derivatives_of_determinants_are_exact_or_an_error():
    """The formula behind them takes an inverse; they must not lose their digits in silence."""

    def third(a):
        along = [vk.grad(lambda t: LA.det(a + t * np.eye(3)))]
        for _ in range(2):
            along.append(vk.grad(along[-1]))
        return along[-1](0.0)

    assert np.isclose(third(A), 6.0)
    singular = np.arange(1.0, 10.0).reshape(3, 3)
    for a in (singular, singular + 1e-12 * np.eye(3), np.zeros((3, 3))):
        with pytest.raises(NotDifferentiableError, match=r"a determinant .* more than twice"):
            third(a)


# ---- spectra -----------------------------------------------------------------------------------

W = np.array([1.0, 2.0, 2.0])
SYMMETRIC = A + A.T


def test_equal_values_share_their_tangents():
    assert np.allclose(spectrum_mean(W, np.array([5.0, 1.0, 2.0]), kink=False), [5, 1.5, 1.5])
    assert np.allclose(spectrum_mean(W * [0, 1, 1], np.ones(3), kink=True), [0, 1, 1])


def test_a_tangent_that_does_not_turn_the_basis():
    m = np.diag([1.0, 2.5, 2.5])
    m[0, 1] = m[1, 0] = 0.5
    dw, omega = spectrum_push(W, m, hermitian=True)
    assert np.allclose(dw, [1, 2.5, 2.5])
    assert np.allclose(omega, np.array([[0, 0.5, 0], [-0.5, 0, 0], [0, 0, 0]]))
    for i, j in ((1, 2), (2, 2)):  # one turns the basis, the other lets the values part
        moved = m.copy()
        moved[i, j] += 0.1
        moved[j, i] = moved[i, j]
        with pytest.raises(NotDifferentiableError, match="values 1 and 2"):
            spectrum_push(W, moved, hermitian=True)


def test_the_mean_of_what_is_constant_may_move_with_the_spectrum():
    t, c = np.array([1.0, 5.0, 1.0]), np.array([1.0, 7.0, 7.0])
    along = lambda w, d, ts: vk.jvp(lambda w, d: spectrum_mean(w, d, kink=False), (w, d), ts)[1]
    assert np.allclose(along(W, c, (np.ones(3), t)), t)
    with pytest.raises(NotDifferentiableError, match="not the same for all"):
        along(W, W - [0, 0, 1], (np.ones(3), t))
    fixed = vk.jvp(lambda d: spectrum_mean(W, d, kink=False), (c,), (t,))[1]
    assert np.allclose(fixed, [1, 3, 3])


@pytest.mark.parametrize("dtype", [float, complex])
def test_generic_bases(dtype):
    """They span the same spaces, and no matrix there has an unexpected diagonal."""
    w = np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0], [1.0, 2.0, 3.0]])
    (v,) = generic(w, np.broadcast_to(np.eye(3, dtype=dtype), (3, 3, 3)))
    assert np.allclose(v @ np.conj(np.swapaxes(v, -1, -2)), np.eye(3))
    assert np.array_equal(v[2], np.eye(3))
    assert np.array_equal(v[0, 0], [1, 0, 0])
    for turned in (v[0, 1:, 1:], v[1]):
        n = len(turned)
        for i, j in np.argwhere(~np.eye(n, dtype=bool)):
            m = np.zeros((n, n), dtype)
            m[i, j], m[j, i] = (1, 1) if dtype is float or i > j else (1j, -1j)
            d = np.diagonal(turned.conj().T @ m @ turned).real
            assert np.ptp(d) > 0.1


def test_a_cotangent_of_a_function_of_the_matrix():
    """V f(w) Vᵀ gives f' times S on the diagonal and 2 f S as the cotangent of Ω."""
    s = SYMMETRIC
    f, slope = W**3, 3 * W**2
    got = spectrum_pull(W, slope * np.diag(s), 2 * s * f, hermitian=True)
    with np.errstate(invalid="ignore"):
        quotients = (f[:, None] - f) / (W[:, None] - W)
    wanted = s * np.where(W[:, None] == W, slope, quotients)
    assert np.allclose(got, wanted)


@pytest.mark.parametrize(
    ("ct_w", "ct_omega"),
    [
        ([0.0, 1.0, 2.0], np.zeros((3, 3))),
        ([0.0, 1.0, 1.0], np.array([[0, 0, 0], [0, 0, 1.0], [0, 0, 0]])),
        ([0.0, 0.0, 0.0], np.array([[0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]])),
        ([0.0, 1.0, 2.0], SYMMETRIC),
    ],
    ids=["values", "rotation", "undetermined", "out of proportion"],
)
def test_cotangents_that_depend_on_the_basis(ct_w, ct_omega):
    with pytest.raises(NotDifferentiableError, match="choice of their vectors"):
        spectrum_pull(W, np.array(ct_w), ct_omega, hermitian=True)


def test_the_phase_of_complex_vectors_is_that_of_the_routine():
    h = SYMMETRIC + 1j * (A - A.T)
    for lower, row in ((True, 0), (False, 2)):
        _, v = linalg.eigh(h, lower=lower)
        mask = phase_rows(v, prefer="first" if lower else "last")
        assert np.array_equal(mask[row], np.ones(3))
        assert np.allclose(np.sum(mask * v, axis=0).imag, 0)
    blocks = np.array([[1, 0, 0], [0, 2, 1j], [0, -1j, 4]])
    _, v = linalg.eigh(blocks, lower=True)
    assert (phase_rows(v, prefer="first").sum(axis=0) == 1).all()


def test_gradients_do_not_see_the_phase():
    """A projector on an eigenvector does not depend on its phase."""
    h = SYMMETRIC + 1j * (A - A.T)

    def f(x):
        v = LA.eigh(x).eigenvectors[:, 1]
        return np.real(np.sum(np.conjugate(v)[:, None] * v * A))

    def g(x):
        v = LA.eigh(x).eigenvectors[:, 1] * np.exp(0.7j)
        return np.real(np.sum(np.conjugate(v)[:, None] * v * A))

    assert np.allclose(vk.grad(f)(h), vk.grad(g)(h))


def test_vectors_of_equal_values_stay_where_all_values_move_together():
    same = np.eye(3)
    w, v = vk.jvp(lambda a: tuple(LA.eigh(a)), (same,), (-same,))[1]
    np.testing.assert_array_equal(w, [-1.0, -1.0, -1.0])
    np.testing.assert_array_equal(v, np.zeros((3, 3)))


@pytest.mark.parametrize("values", [LA.eigvalsh, lambda a: LA.eigh(a).eigenvalues])
def test_the_pullback_of_equal_values_is_a_linear_map_of_its_own(values):
    """Its tangents are means over the diagonal of each group; vectors are not asked for."""
    a = np.stack([np.diag([1.0, 1.0, 2.0]), np.diag([2.0, 3.0, 3.0])])
    _, pullback = vk.vjp(values, a)
    m = np.arange(18.0).reshape(2, 3, 3)
    m = m + m.swapaxes(1, 2)
    (got,) = vk.vjp(lambda ct: pullback(ct)[0], np.ones((2, 3)))[1](m)
    np.testing.assert_allclose(got, [[4.0, 4.0, 16.0], [18.0, 30.0, 30.0]], rtol=1e-14)


# ---- at singular matrices ------------------------------------------------------------------------

HALF = np.diag([1.0, 0.0])


def test_the_logarithm_of_a_determinant_rises_infinitely_from_a_singular_matrix():
    logarithm = lambda a: np.linalg.slogdet(a)[1]
    with np.errstate(all="ignore"):
        for f in (logarithm, vk.jit(logarithm)):
            for a, along in ((np.zeros((2, 2)), HALF), (HALF, np.eye(2)), (1j * HALF, np.eye(2))):
                value, tangent = vk.jvp(f, (a,), (along.astype(a.dtype),))
                assert value == -np.inf
                assert not np.isfinite(tangent)
            assert vk.jvp(f, (np.zeros((2, 2)),), (HALF,))[1] == np.inf
            stays_zero = np.array([[0.0, 1.0], [0.0, 0.0]])
            assert np.isnan(vk.jvp(f, (np.zeros((2, 2)),), (stays_zero,))[1])
            assert not np.isfinite(vk.grad(f)(HALF)).all()


def test_singular_values_that_vanish():
    """Those of `svdvals` are not negative and have a kink; those of the factors change sign."""
    along = np.array([[1.0, 2.0], [3.0, 4.0]])
    values, factors = np.linalg.svdvals, lambda a: np.linalg.svd(a)[1]
    for f, tangent, gradient in (
        (values, [1.0, 0.0], HALF),
        (factors, [1.0, 4.0], np.eye(2)),
    ):
        for g in (f, vk.jit(f)):
            total = lambda a, g=g: np.sum(g(a))
            inner = lambda a, g=g: vk.jvp(g, (a,), (along,))[0]
            for h in (g, inner):
                np.testing.assert_allclose(vk.jvp(h, (HALF,), (along,))[1], tangent, 1e-14)
            np.testing.assert_allclose(vk.grad(total)(HALF), gradient, 1e-14)


def test_a_norm_that_is_not_chosen_contributes_nothing():
    f = lambda x: np.where(x[1] > 5, np.linalg.norm(x), 0.0)
    for x in (np.array([np.inf, 1.0]), np.array([np.nan, 1.0])):
        for g in (vk.grad(f), vk.jit(vk.grad(f))):
            np.testing.assert_array_equal(g(x), [0.0, 0.0])


BASES = {
    "qr": lambda a: np.linalg.qr(a, mode="complete")[0][:, 2:],
    "svd": lambda a: np.linalg.svd(a)[0][:, 2:],
}


@pytest.mark.parametrize("basis", BASES.values(), ids=BASES)
def test_vectors_that_complete_a_complex_basis_count_by_their_space(basis):
    a, t, beside = (RNG.normal(size=(4, 2)) + 1j * RNG.normal(size=(4, 2)) for _ in range(3))
    weights = beside @ np.conj(beside.T)
    of_space = lambda a: np.real(np.sum(basis(a) @ np.conj(basis(a)).T * weights))
    of_vectors = lambda a: np.real(np.sum(basis(a) * beside))
    check_grads(of_space, (a,), order=1)
    along = lambda f: lambda a: vk.jvp(f, (a,), (t,))[1]
    for derivative in (vk.grad, lambda f: vk.grad(along(f)), lambda f: vk.grad(along(along(f)))):
        with pytest.raises(NotDifferentiableError, match="any basis of a space"):
            derivative(of_vectors)(a)


def test_second_derivatives_of_least_squares_do_not_see_what_is_dropped():
    """Not even a singular value that is exactly zero, and in plain arithmetic."""
    a, t, b = RNG.normal(size=(3, 4, 3))
    a[:, 2] = 0
    f = lambda a: np.sum(np.sin(np.linalg.lstsq(a, b, 1e-8)[0]))
    second = lambda strict: vk.grad(
        lambda a: vk.jvp(f, (a,), (t,), strict=strict)[1], strict=strict
    )
    found = second(True)(a)
    np.testing.assert_allclose(found, second(False)(a), rtol=1e-12)
    assert np.isfinite(found).all()
