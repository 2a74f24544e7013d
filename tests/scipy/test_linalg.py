"""`vjpkit.scipy.linalg` has SciPy's names, values, signatures and errors, on traced values too."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.scipy.calls import Call, check_derivatives, check_transforms, check_value, each
from vjpkit.core.errors import NotDifferentiableError, UnsupportedError

theirs = pytest.importorskip("scipy.linalg")
ours = vk.scipy.linalg

A = np.array([[1.3, -1.2, 0.5], [0.7, 2.4, -0.6], [0.2, 0.9, -1.1]])
I = np.array([[0.2, 0.1, -0.3], [-0.4, 0.3, 0.6], [0.1, -0.5, 0.2]])  # noqa: E741
C = A + 1j * I
B = np.array([[0.5, 1.1], [-0.7, 0.2], [1.3, -0.9]])
Z = B * (1 + 0.5j)
P = A @ A.T + np.eye(3)
H = C @ C.conj().T + np.eye(3)
G = np.eye(3) + 0.3 * I
V = np.array([0.5, -0.7, 1.3])
BAND = np.array([[9.0, 9.0, 0.3], [9.0, -1.2, 0.5], [2.3, 1.4, -1.1], [0.2, 0.9, 9.0]])
DIAGONALS = np.array([[9.0, 0.5, -0.4], [2.3, 1.4, 3.1]])
LOWER = np.stack([DIAGONALS[1], DIAGONALS[0, [1, 2, 0]] * 1j])
Q = np.diag([1.0, 2.0, 1.5]) + 0.1
R = np.diag([1.0, 0.7])


def symmetric(a: Any) -> Any:
    return (a + np.swapaxes(np.conj(a), -1, -2)) / 2


def sized(out: Any) -> Any:
    """Of vectors, what does not depend on their signs or phases."""
    return [abs(x) for x in out]


def crossed(a: Any, b: Any, q: Any, r: Any, s: Any) -> Any:
    return *regular(a, b, q, r), None, s


def regular(a: Any, b: Any, q: Any, r: Any) -> Any:
    return a, b, symmetric(q), symmetric(r)


CALLS = [
    Call("solve", (A, B)),
    Call("solve", (C, V)),
    Call("solve", (A, V), {"transposed": True}),
    *[
        Call("solve", (P, B), {"assume_a": word, "lower": lower})
        for word in ("sym", "her", "pos", "gen")
        for lower in (False, True)
    ],
    Call("solve", (H, B), {"assume_a": "pos"}),
    Call("solve", (H, B), {"assume_a": "her", "lower": True}),
    Call("solve", (H, B), {"assume_a": "sym"}),
    *[
        Call("solve", (A, B), {"assume_a": word})
        for word in ("upper triangular", "lower triangular")
    ],
    Call("solve", (np.diag(V), B), {"assume_a": "diagonal"}),
    *[
        Call("solve_triangular", (A, B), {"trans": trans, "lower": lower})
        for trans, lower in ((0, False), (1, True), ("T", False), ("N", True), (2, False))
    ],
    Call("solve_triangular", (C, V), {"trans": "C", "unit_diagonal": True}),
    Call("cholesky", (P,)),
    Call("cholesky", (H,), {"lower": True}),
    Call("cho_factor", (P,)),
    Call("cho_factor", (H,), {"lower": True}),
    Call("cho_solve", (np.triu(A) + 3 * np.eye(3), B), made=lambda c, b: ((c, False), b)),
    Call("cho_solve", (np.tril(C) + 3 * np.eye(3), V), made=lambda c, b: ((c, True), b)),
    Call("inv", (A,)),
    Call("inv", (C,)),
    Call("inv", (P,), {"assume_a": "pos"}),
    Call("inv", (P,), {"assume_a": "sym"}),
    Call("inv", (A,), {"assume_a": "lower triangular"}),
    Call("det", (A,)),
    Call("det", (C,)),
    Call("lu", (A,)),
    Call("lu", (B,), {"permute_l": True}),
    Call("lu", (Z.T,), {"p_indices": True}),
    Call("lu_factor", (C,)),
    Call("lu_factor", (B,)),
    *[
        Call("lu_solve", (C, B), {"trans": t}, made=lambda a, b: ((a, np.array([2, 1, 2])), b))
        for t in (0, 1, 2)
    ],
    Call("lu_solve", (A, V), made=lambda a, b: ((a, np.array([1, 2, 2])), b)),
    Call("qr", (A,)),
    Call("qr", (B,), {"mode": "economic"}),
    Call("qr", (Z,), {"mode": "economic", "pivoting": True}),
    Call("qr", (B,), {"mode": "r"}),
    Call("qr", (B.T,), {"mode": "full"}),
    Call("qr", (B,), {"mode": "raw"}),
    Call("qr", (B,), of=lambda out: (abs(out[0][:, :2]), out[1])),
    Call("rq", (A,)),
    Call("rq", (B,), {"mode": "economic"}),
    Call("rq", (B,)),
    Call("rq", (Z.T,), {"mode": "economic"}),
    Call("rq", (B.T,), {"mode": "r"}),
    Call("svd", (B,), {"full_matrices": False}),
    Call("svd", (A,), {"lapack_driver": "gesvd"}),
    Call("svd", (C,), {"compute_uv": False}),
    Call("svd", (Z,), {"full_matrices": False}, of=sized),
    Call("svdvals", (Z,)),
    Call("eigh", (P,)),
    Call("eigh", (H,), {"lower": False, "driver": "evd"}),
    Call("eigh", (P,), {"subset_by_index": [1, 2]}),
    Call("eigh", (P,), {"subset_by_value": [6.0, 99.0]}, order=1, staged=False, mapped=False),
    Call("eigh", (P,), {"eigvals_only": True}),
    *[Call("eigh", (A, P), {"type": t}) for t in (1, 2, 3)],
    Call("eigh", (H, P + 1j * (I - I.T)), {"lower": False}, of=sized),
    Call("eigvalsh", (H,)),
    Call("eigvalsh", (A, P), {"subset_by_index": [0, 1]}),
    Call("eig", (A,), staged=False),
    Call("eig", (C,)),
    Call("eig", (C,), {"left": True}),
    Call("eig", (A,), {"left": True, "right": False}, staged=False),
    Call("eig", (I,), {"homogeneous_eigvals": True}),
    Call("eigvals", (C,)),
    Call("eigh_tridiagonal", (V, B[:2, 0])),
    Call("eigvalsh_tridiagonal", (V, B[:2, 0]), {"select": "i", "select_range": (0, 1)}),
    Call("eig_banded", (DIAGONALS,)),
    Call("eig_banded", (DIAGONALS[::-1],), {"lower": True, "select": "i", "select_range": (1, 2)}),
    Call("eigvals_banded", (DIAGONALS,)),
    Call("polar", (A,)),
    Call("polar", (B,), {"side": "left"}),
    Call("polar", (Z.T,)),
    Call("polar", (Z.T,), {"side": "left"}),
    Call("orthogonal_procrustes", (A, I + np.eye(3))),
    Call("pinv", (B,)),
    Call("pinv", (Z,), {"return_rank": True}),
    Call("pinv", (A,), {"atol": 0.5}),
    Call("pinvh", (P,)),
    Call("pinvh", (H,), {"lower": False, "return_rank": True}),
    Call("lstsq", (B, V)),
    Call("lstsq", (Z, A)),
    Call("lstsq", (B.T, B.T), {"lapack_driver": "gelsy"}),
    *[Call("norm", (A,), {"ord": o}) for o in (None, "fro", "nuc", 1, 2, np.inf)],
    Call("norm", (C,), {"ord": -1}),
    Call("norm", (Z,), {"axis": 1, "keepdims": True}),
    Call("norm", (V,), {"ord": 3}),
    Call("expm", (A,)),
    Call("expm", (C,)),
    Call("expm_frechet", (A, I)),
    Call("expm_frechet", (A, I), {"compute_expm": False, "method": "blockEnlarge"}),
    *[Call(name, (G,)) for name in ("logm", "sqrtm")],
    *[Call(name, (C + 2 * np.eye(3),)) for name in ("logm", "sqrtm", "signm")],
    Call("sqrtm", (A,)),
    Call("signm", (A,)),
    *[Call(n, (G,)) for n in ("cosm", "sinm", "tanm", "coshm", "sinhm", "tanhm")],
    *[Call(n, (C,)) for n in ("cosm", "sinm", "tanm", "coshm", "sinhm", "tanhm")],
    Call("fractional_matrix_power", (G,), made=lambda a: (a, 0.3)),
    Call("fractional_matrix_power", (A,), made=lambda a: (a @ a, -1.5)),
    Call("fractional_matrix_power", (A,), made=lambda a: (a, 3)),
    Call("fractional_matrix_power", (G, np.array(0.3))),
    Call("funm", (G,), made=lambda a: (a, lambda x: np.exp(x) * x)),
    Call("block_diag", (A, V, B)),
    Call("toeplitz", (V,)),
    Call("toeplitz", (V * (1 + 1j), B[:2, 0])),
    Call("circulant", (V,)),
    Call("hankel", (V,), mapped=False),
    Call("hankel", (V, B[:2, 0]), mapped=False),
    Call("companion", (V,)),
    Call("leslie", (V, B[:2, 0])),
    *[
        Call("convolution_matrix", (V,), {"n": n, "mode": mode})
        for n in (2, 5)
        for mode in ("full", "same", "valid")
    ],
    Call("fiedler", (V,)),
    *[Call("fiedler_companion", (np.arange(1.0, n) ** 2,), mapped=False) for n in (3, 4, 5, 6, 7)],
    Call("khatri_rao", (A[:, :2], B)),
    Call("diagsvd", (V,), {"M": 3, "N": 5}),
    Call("diagsvd", (V,), {"M": 4, "N": 3}),
    Call("solve_toeplitz", (V, B)),
    Call("solve_toeplitz", (V, A[0], Z), made=lambda c, r, b: ((c, r), b)),
    Call("solve_toeplitz", (V * (1 + 1j), V)),
    Call("matmul_toeplitz", (V, B)),
    Call("matmul_toeplitz", (B[:2, 0], V, V), made=lambda c, r, x: ((c, r), x)),
    Call("matmul_toeplitz", (V * (1 + 1j), B)),
    Call("solve_circulant", (V, B)),
    Call("solve_circulant", (V, Z.T), {"baxis": -1, "outaxis": -1}),
    Call(
        "solve_circulant",
        (V - V.mean(), V),
        {"singular": "lstsq", "tol": 1e-3},
        order=1,
        mapped=False,
    ),
    Call("solve_banded", (BAND, B), made=lambda ab, b: ((1, 2), ab, b)),
    Call("solve_banded", (BAND * (1 + 0.5j), V), made=lambda ab, b: ((2, 1), ab, b)),
    Call("solveh_banded", (DIAGONALS, B)),
    Call("solveh_banded", (LOWER, V), {"lower": True}),
    Call("solve_sylvester", (A, I[:2, :2], B)),
    Call("solve_sylvester", (C, I[:2, :2] + 0.1j, B)),
    Call("solve_continuous_lyapunov", (A, Q)),
    Call("solve_lyapunov", (C, Q)),
    Call("solve_discrete_lyapunov", (I, Q)),
    Call("solve_discrete_lyapunov", (I + 0.1j, Q), {"method": "bilinear"}),
    Call("solve_continuous_are", (A, B, Q, R), made=regular),
    Call("solve_discrete_are", (A, B, Q, R), made=regular),
    Call("solve_continuous_are", (C, Z, Q, R), made=regular),
    Call("solve_discrete_are", (C, Z, Q, R), made=regular),
    Call("solve_continuous_are", (A, B, Q, R, 0.1 * B), made=crossed),
    Call("solve_discrete_are", (A, B, Q, R, 0.1 * B), made=crossed),
    Call("null_space", (B.T,), of=lambda q: q @ np.conj(q.T), staged=False, mapped=False),
    Call("orth", (B,), staged=False, mapped=False),
    Call("orth", (Z,), of=lambda q: q @ np.conj(q.T), staged=False, mapped=False),
    Call("subspace_angles", (B, A[:, :1]), staged=False, mapped=False),
    Call("subspace_angles", (B, A[:, :2]), staged=False, mapped=False),
]  # fmt: skip


@each(CALLS)
def test_values_are_scipys(call: Call) -> None:
    check_value(call, ours, theirs)


@each(CALLS)
def test_derivatives(call: Call) -> None:
    check_derivatives(call, ours)


@each(CALLS)
def test_staged_and_mapped(call: Call) -> None:
    check_transforms(call, ours)


# ------------------------------------------------------------------------------- names, signatures

CONSTANTS = {
    "dft", "get_blas_funcs", "get_lapack_funcs", "find_best_blas_type", "hadamard", "helmert",
    "hilbert", "invhilbert", "invpascal", "pascal", "test",
}  # fmt: skip
"""SciPy's own: what they make does not depend on arrays that could be traced."""


def functions() -> list[str]:
    return [
        name
        for name, value in vars(theirs).items()
        if name[0] != "_" and callable(value) and not isinstance(value, type)
    ]


def test_every_function_is_accounted_for() -> None:
    assert set(functions()) == set(ours.__all__) | CONSTANTS
    for name in CONSTANTS:
        assert getattr(ours, name) is getattr(theirs, name)


def test_every_function_of_ours_is_called_here() -> None:
    made = {"solve_lyapunov", "solve_continuous_lyapunov"}
    called = {call.name for call in CALLS} | made | set(ours.REFUSED) | set(ours.QUESTIONS)
    assert called == set(ours.__all__)


@pytest.mark.parametrize("name", sorted(set(ours.__all__) - set(ours.QUESTIONS)))
def test_signatures_are_scipys(name: str) -> None:
    def shape(function: Any) -> Any:
        parameters = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, p.default is p.empty or str(p.default)[:5]) for p in parameters]

    mine, scipys = shape(getattr(ours, name)), shape(getattr(theirs, name))
    sentinels = {"disp", "blocksize"}  # their defaults say that they were not given
    assert [p[:2] for p in mine] == [p[:2] for p in scipys]
    assert [p for p in mine if p[0] not in sentinels] == [
        p for p in scipys if p[0] not in sentinels
    ]


@pytest.mark.parametrize("name", ours.REFUSED)
def test_what_is_refused_is_named(name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"scipy\.linalg\.{name}: this function"):
        vk.grad(lambda x: getattr(ours, name)(x))(A)


KEYWORDS: list[tuple[str, dict[str, Any], str]] = [
    ("eig", {"b": P}, r"scipy\.linalg\.eig: b is not"),
    ("eigvals", {"b": P}, r"scipy\.linalg\.eigvals: b is not"),
    ("logm", {"disp": False}, r"scipy\.linalg\.logm: disp=False is not"),
    ("sqrtm", {"disp": False}, r"scipy\.linalg\.sqrtm: disp=False is not"),
    ("signm", {"disp": False}, r"scipy\.linalg\.signm: disp=False is not"),
    ("funm", {"func": np.exp, "disp": False}, r"scipy\.linalg\.funm: disp=False is not"),
    ("hankel", {}, r"scipy\.linalg\.hankel: an array of more than one dimension"),
    ("fiedler_companion", {}, r"scipy\.linalg\.fiedler_companion: an array of more than one"),
    ("solve_continuous_are", {"b": B, "q": Q, "r": R, "e": A}, r"solve_continuous_are: e is not"),
    ("solve_discrete_are", {"b": B, "q": Q, "r": R, "e": A}, r"solve_discrete_are: e is not"),
]


@pytest.mark.parametrize(("name", "keywords", "message"), KEYWORDS)
def test_keywords_that_are_refused(name: str, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        vk.grad(lambda x: np.sum(getattr(ours, name)(x, **keywords)))(A)


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("solve", (A[:2], B), {}),
    ("solve", (A, B[:2]), {}),
    ("solve", (0 * A, B), {}),
    ("solve", (A * np.nan, B), {}),
    ("solve", (-P, B), {"assume_a": "pos"}),
    ("solve", (A, B), {"assume_a": "square"}),
    ("inv", (0 * A,), {}),
    ("inv", (B,), {}),
    ("solve_triangular", (0 * A, B), {}),
    ("cholesky", (-P,), {}),
    ("cho_factor", (B,), {}),
    ("qr", (A,), {"mode": "reduced"}),
    ("rq", (A,), {"mode": "raw"}),
    ("polar", (A,), {"side": "up"}),
    ("svd", (A,), {"lapack_driver": "gesxx"}),
    ("eigh", (A,), {"subset_by_index": [1, 9]}),
    ("eigh", (A,), {"driver": "quick"}),
    ("eigh", (A, P), {"type": 4}),
    ("eigh_tridiagonal", (V, V), {}),
    ("eigh_tridiagonal", (V, V[:2]), {"select": "some"}),
    ("expm", (B,), {}),
    ("sqrtm", (B,), {}),
    ("expm_frechet", (A, B), {}),
    ("solve_banded", ((1, 1), BAND, B), {}),
    ("solveh_banded", (-DIAGONALS, B), {}),
    ("solve_toeplitz", (V, B[:2]), {}),
    ("solve_circulant", (0 * V, V), {}),
    ("solve_sylvester", (A, A, B), {}),
    ("solve_discrete_lyapunov", (A, Q), {"method": "magic"}),
    ("solve_continuous_are", (A, B, A, R), {}),
    ("companion", (0 * V,), {}),
    ("leslie", (V, V), {}),
    ("khatri_rao", (A, B), {}),
    ("diagsvd", (V, 4, 4), {}),
    ("toeplitz", (object(),), {}),
    ("pinv", (A,), {"rtol": -1.0}),
    ("lstsq", (A, B), {"lapack_driver": "gesxx"}),
]


@pytest.mark.parametrize(("name", "args", "keywords"), WRONG)
def test_errors_are_scipys(name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    with np.errstate(all="ignore"), pytest.raises(Exception) as wanted:  # noqa: PT011  # whichever
        getattr(theirs, name)(*args, **keywords)

    def traced(t: float) -> Any:
        scaled = [t * x if isinstance(x, np.ndarray) else x for x in args]
        return np.sum(np.abs(vk.tree_util.tree_leaves(getattr(ours, name)(*scaled, **keywords))[0]))

    with pytest.raises(wanted.type):
        vk.grad(traced)(1.0)


# ---------------------------------------------------------------------------------- special points


def test_questions_are_asked_of_values() -> None:
    def f(a: Any) -> Any:
        assert ours.issymmetric(a)
        assert ours.bandwidth(a) == (2, 2)
        assert ours.ishermitian(a, atol=1e-9)
        return a[0, 0]

    assert vk.grad(f)(P)[0, 0] == 1


def test_mixed_real_and_complex_equations_are_solved() -> None:
    for a, b, q in ((C, I, A), (I, C, A), (I, I.T, C)):
        x = ours.solve_sylvester(a, b, q)
        assert a @ x + x @ b == pytest.approx(q)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["logm", "sqrtm", "fractional_matrix_power"])
def test_functions_without_a_derivative_at_singular_matrices(name: str) -> None:
    powers = (0.3,) if name == "fractional_matrix_power" else ()
    raised = pytest.raises((np.linalg.LinAlgError, NotDifferentiableError))
    with raised, np.errstate(all="ignore"):
        vk.grad(lambda a: np.real(getattr(ours, name)(a, *powers)).sum())(np.diag([1.0, 0.0]))


@pytest.mark.parametrize("name", ["logm", "fractional_matrix_power"])
def test_functions_without_a_derivative_on_their_branch_cut(name: str) -> None:
    powers = (0.3,) if name == "fractional_matrix_power" else ()
    with pytest.raises(NotDifferentiableError, match="principal branch ends"):
        vk.grad(lambda a: np.real(getattr(ours, name)(a, *powers)).sum())(np.diag([1.0, -2.0]))


@pytest.mark.parametrize(
    ("name", "third"),
    [("expm", np.exp(2.0)), ("logm", 2 / 2.0**3), ("sqrtm", 3 / 8 * 2.0**-2.5)],
)
def test_second_derivatives_at_a_jordan_block(name: str, third: float) -> None:
    """Beside the diagonal a function of a Jordan block has its derivative."""
    jordan = np.array([[2.0, 1.0], [0.0, 2.0]])
    beside = vk.grad(vk.grad(lambda t: getattr(ours, name)(jordan + t * np.eye(2))[0, 1]))
    assert beside(0.0) == pytest.approx(third, rel=1e-7)
