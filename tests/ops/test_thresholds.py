"""Where spectra count as degenerate, matrices as defective, values as zero: to the rounding."""

import warnings

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import NotDifferentiableError
from vjpkit.ops.linalg import basis_tangent, cholesky_pull, drops_values, eigh
from vjpkit.ops.spectra import (
    _block,
    _diagonal,
    _gap_cotangent,
    negligible,
    spectrum_pull,
    tolerance,
)
from vjpkit.ops.vectors import guarded_quotient, independent

EPS = np.finfo(float).eps
M = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6], [0.2, 0.9, -1.1]])

# ---- quotients -----------------------------------------------------------------------------------


def quotient_with(smallest, scale, x):
    """x / y for a y with one entry so small against the largest."""
    y = np.full((3, 3), scale)
    y[1, 2] = smallest * 30 * EPS * scale
    return guarded_quotient(x, y), y


@pytest.mark.parametrize("scale", [4.0, 0.25])
def test_a_divisor_counts_as_zero_below_ten_n_eps_of_the_largest(scale):
    x = M.copy()
    quotient, y = quotient_with(1.05, scale, x)
    np.testing.assert_array_equal(quotient, x / y)
    x[1, 2] = 0.0
    quotient, y = quotient_with(0.95, scale, x)
    y[1, 2] = 1.0
    np.testing.assert_array_equal(quotient, x / y)
    x[1, 2] = 0.5 * np.sqrt(EPS) * 2.5  # as good as zero
    np.testing.assert_array_equal(
        quotient_with(0.95, scale, x)[0], np.where(x == x[1, 2], 0, x / y)
    )
    x[1, 2] = 1.0
    with pytest.raises(NotDifferentiableError, match="singular values vanish to rounding"):
        quotient_with(0.95, scale, x)


# ---- independent columns -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "least"), [("eigenvectors", np.sqrt(20 * EPS)), ("columns", 20 * EPS)]
)
@pytest.mark.parametrize("scale", [4.0, 0.25])
def test_columns_count_as_dependent(of, least, scale):
    fine, dependent = (scale * np.diag([1.0, f * least]) for f in (1.05, 0.95))
    np.testing.assert_array_equal(independent(fine, of=of), fine)
    with pytest.raises(NotDifferentiableError, match="have no derivative there"):
        independent(dependent, of=of)
    program = vk.jit(lambda v: independent(v, of=of))
    with pytest.warns(RuntimeWarning, match="have no derivative there"):
        nothing = program(dependent)
    np.testing.assert_array_equal(nothing, np.eye(2) / np.sqrt(np.finfo(float).tiny))
    both = np.stack([fine, dependent])
    with pytest.warns(RuntimeWarning, match="have no derivative there") as warned:
        np.testing.assert_array_equal(program(both), np.stack([fine, nothing]))
    assert {w.filename for w in warned} == {__file__}  # the line that runs the program


# ---- spectra -------------------------------------------------------------------------------------


def test_what_counts_as_equal_and_as_nothing():
    np.testing.assert_array_equal(tolerance(np.array([0.25, -0.5])), [20 * EPS * 0.5])
    np.testing.assert_array_equal(tolerance(np.array([3.0, 1.0, 2.0])), [30 * EPS * 3])
    assert tolerance(np.zeros(0)).shape == (1,)
    assert negligible(np.array([[4.0, -8.0]])) == np.sqrt(EPS) * 8
    assert negligible(np.array([0.25])) == np.sqrt(EPS) / 4


def test_the_spectrum_of_one_value():
    """Nothing to be equal to."""
    a = np.array([[2.0]])
    np.testing.assert_array_equal(vk.grad(lambda a: np.sum(np.linalg.eigh(a)[1] ** 2))(a), [[0.0]])
    np.testing.assert_array_equal(vk.jvp(lambda a: np.linalg.eigh(a)[1], (a,), (a,))[1], [[0.0]])
    np.testing.assert_array_equal(spectrum_pull(a[0], a[0], a, hermitian=True), a)
    assert eigh(a, lower=True)[1].shape == (1, 1)


def test_cotangents_of_real_spectra_are_real():
    w, ct = np.array([1.0, 2.0, 4.0]), M + 1j * M.T
    assert _gap_cotangent(w, ct * ct).dtype == float
    assert _diagonal(w, ct, hermitian=True).dtype == float
    assert _diagonal(w + 0j, ct, hermitian=False).dtype == complex


def test_groups_of_equal_values_in_stacks():
    """The spectrum, its cotangent and that of the vectors are aligned, whatever has the stack."""
    w, ct_w, ct = np.array([1.0, 1.0, 3.0]), np.array([2.0, 2.0, 5.0]), np.zeros((3, 3))
    ct[0, 2], ct[2, 0] = 0.5, -0.5
    one = spectrum_pull(w, ct_w, ct, hermitian=True)
    np.testing.assert_array_equal(one[:2, :2], 2.0 * np.eye(2))
    for stacked in (
        (np.stack([w, w]), ct_w, ct),
        (w, np.stack([ct_w, ct_w]), ct),
        (w, ct_w, np.stack([ct, ct])),
    ):
        np.testing.assert_array_equal(spectrum_pull(*stacked, hermitian=True), np.stack([one, one]))


HALF = np.array([[1.0, 1.0], [1.0, 1.0]])
SMALL = 0.01 * np.array([[1.0, 0.5], [0.5, 2.0]])
THREE = 2 * np.diag([1.0, 2.0, 3.0]) + np.diag([0.5, 0.7], 1) + np.diag([0.5, 0.7], -1)
BLOCKS = {
    "nothing of the vectors": (np.full(2, 2.0), np.zeros((2, 2)), True, 2.0 * np.eye(2)),
    "the same, not Hermitian": (np.full(2, 2.0), np.zeros((2, 2)), False, 2.0 * np.eye(2)),
    "not Hermitian, with vectors": (np.full(2, 2.0), HALF, False, None),
    "not Hermitian, the identity": (np.full(2, 2.0), 3.0 * np.eye(2), False, None),
    "a multiple of the identity": (np.full(2, 2.0), 3.0 * np.eye(2), True, 2.0 * np.eye(2)),
    "in proportion": (np.full(2, 2.0), HALF, True, 2.0 * HALF),
    "in proportion, small": (np.array([1.0, 2.0]), SMALL, True, 100.0 * SMALL),
    "constant": (np.full(2, 2.0), np.diag([1.0, -1.0]), True, 2.0 * np.eye(2)),
    "out of proportion": (np.array([2.0, 1.0]), np.diag([1.0, -1.0]), True, None),
    "a line": (np.arange(3.0) + 4, THREE, True, 0.5 * THREE + 3 * np.eye(3)),
    "no line": (np.arange(3.0) ** 2 + 4, THREE, True, None),
    "constant no more": (np.array([1.0, 2.0]), np.zeros((2, 2)), True, None),
    "skew": (np.full(2, 2.0), np.array([[0.0, 1.0], [-1.0, 0.0]]), True, None),
}


@pytest.mark.parametrize(("b", "c", "hermitian", "wanted"), BLOCKS.values(), ids=BLOCKS)
def test_the_cotangent_of_a_group(b, c, hermitian, wanted):
    found = _block(b, c, 1e-3, negligible(b), hermitian)
    if wanted is None:
        assert found is None
    else:
        assert found is not None
        assert found.shape == (len(b), len(b))
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


# ---- elementwise ---------------------------------------------------------------------------------


def test_partials_at_the_ends_of_the_range():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert vk.grad(lambda x: np.log(x))(-0.0) == -np.inf
    assert vk.grad(lambda x: np.arcsinh(x))(1e200) == pytest.approx(1e-200, rel=1e-12, abs=0)


def test_the_quotient_of_fmod_is_a_whole_number():
    x, y = np.linspace(0.1, 50.0, 500), 0.1
    slopes = vk.jacrev(lambda y: np.fmod(x, y))(y)
    np.testing.assert_array_equal(slopes, np.rint(slopes))


def test_powers_of_pythons_numbers():
    slope = lambda x: vk.grad(lambda y: x**y)
    assert slope(0.0)(2.0) == 0.0
    assert slope(0.0)(0.0) == 0.0
    assert slope(1.0)(2.0) == 0.0
    assert slope(2.0)(3.0) == pytest.approx(8.0 * np.log(2.0))
    with np.errstate(all="ignore"):
        assert np.isnan(slope(-2.0)(2.0))


def test_nextafter_is_not_linear():
    x = np.array([0.3, 1.2])
    for f in (lambda x: np.nextafter(x, 1.0), lambda x: np.nextafter(x, x)):
        with pytest.raises(TypeError, match="nextafter"):
            vk.linear_transpose(f, x)(x)


# ---- factorizations ------------------------------------------------------------------------------


def test_limits_above_rounding_may_drop_values():
    a = np.ones((2, 3))
    assert not drops_values(a, 299 * EPS)
    assert drops_values(a, 301.5 * EPS)
    assert drops_values(a, np.array(0.0))
    assert not drops_values(np.ones((2, 3), int), 299 * EPS)


def test_values_are_dropped_against_the_largest():
    a, t = M[:, :2], M[:, 1:]
    push = lambda scale: vk.jvp(lambda a: np.linalg.pinv(a, rcond=0.6), (scale * a,), (scale * t,))[
        1
    ]
    np.testing.assert_allclose(0.01 * push(0.01), push(1.0), rtol=1e-10)


def test_completed_factors_of_stacks():
    a, t = np.stack([M[:, :2], M.T[:, :2]]), np.stack([M[:, 1:], M.T[:, 1:]])
    for f in (lambda a: np.linalg.qr(a, mode="complete")[0], lambda a: np.linalg.svd(a)[0]):
        both = vk.jvp(f, (a,), (t,))[1]
        single = [vk.jvp(f, (a[i],), (t[i],))[1] for i in range(2)]
        np.testing.assert_allclose(both, np.stack(single), rtol=1e-10, atol=1e-12)


def test_one_tangent_of_many_bases():
    q = np.linalg.qr(np.stack([M, M.T]))[0][..., :2]
    _, pullback = vk.vjp(lambda t: basis_tangent(q, t, checked=False), M[:, :2])
    beyond = M[:, 1:] - q @ (np.swapaxes(q, -1, -2) @ M[:, 1:])
    (ct,) = pullback(beyond)
    assert ct.shape == (3, 2)
    np.testing.assert_allclose(ct, np.sum(beyond, axis=0), atol=1e-12)


def test_the_pullback_of_cholesky_is_linear_in_the_cotangent_and_the_left_factors():
    assert cholesky_pull.linear_in((False, True), {})
    assert cholesky_pull.linear_in((False, True, True, False), {})
    assert cholesky_pull.linear_in((False, True, True, False, True, False), {})
    assert not cholesky_pull.linear_in((False, True, False, True), {})
    assert not cholesky_pull.linear_in((False, True, False, True, True, False), {})


@pytest.mark.parametrize("lower", [True, False])
def test_the_phase_of_real_vectors_is_lapacks(lower):
    """Where more than one element is real, LAPACK's choice decides which of them stays real."""
    a, t = (M + M.T).astype(complex), (M + M.T) * 0.3 + 1j * (M - M.T)
    f = lambda a: np.linalg.eigh(a, "L" if lower else "U")[1]
    h = 1e-6
    difference = (f(a + h * t) - f(a - h * t)) / (2 * h)
    difference *= np.sign(np.sum(f(a) * f(a + h * t), axis=0).real)  # of a real matrix it is free
    np.testing.assert_allclose(vk.jvp(f, (a,), (t,))[1], difference, atol=1e-7)
