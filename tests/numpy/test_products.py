"""Products of vectors, matrices and tensors through plain NumPy."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.numpy.against_numpy import assert_same_as_numpy, outcome
from tests.numpy.agreement import agrees, warned
from vjpkit.core.errors import UnsupportedError

V = np.array([0.7, -1.1, 0.4])
W = np.array([1.3, 0.2, -0.8])
A = np.array([[0.3, -1.2, 2.5], [1.7, 0.4, -0.6]])
B = np.array([[0.5, 1.1], [-0.7, 0.2], [1.3, -0.9]])
S = np.array([[1.3, -1.2, 2.5], [1.7, 0.4, -0.6], [0.2, 0.9, -1.1]])
T = np.arange(24.0).reshape(2, 3, 4) / 10 - 1
U = np.arange(24.0).reshape(4, 3, 2) / 7 - 1
C = A + 1j * B.T
D = B - 0.5j * A.T
vecdot: Any = np.vecdot  # NumPy's stubs do not know its axis
linalg_vecdot: Any = np.linalg.vecdot


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (np.dot, (V, W)),
        (np.dot, (A, B)),
        (np.dot, (A, V)),
        (np.dot, (V, B)),
        (np.dot, (T, T[0].T)),
        (np.dot, (A, U[:, :, 0].T)),
        (np.dot, (T[..., :3], U)),
        (np.dot, (V, U)),
        (np.dot, (0.3, A)),
        (np.dot, (C, D)),
        (lambda x, y: x.dot(y), (A, B)),
        (lambda x, y: x @ y, (A, B)),
        (lambda x: [1.0, 2.0] @ x, (A,)),
        (np.matmul, (T, U[:, :, 0][None])),
        (np.matmul, (C, D)),
        (lambda x, y: np.matmul(x, y, axes=[(1, 0), (0, 1), (1, 0)]), (B, B)),
        (np.linalg.matmul, (A, B)),
        (np.vdot, (C, D.T)),
        (np.vdot, (A, B)),
        (np.inner, (V, W)),
        (np.inner, (T, U[:, 0, 0][None])),
        (np.inner, (C, C)),
        (np.inner, (2.0, A)),
        (np.outer, (A, V)),
        (np.outer, (V, W)),
        (np.linalg.outer, (V, W)),
        (np.kron, (A, B)),
        (np.kron, (V, A)),
        (np.kron, (A, 2.0)),
        (np.kron, (C, V)),
        (np.cross, (V, W)),
        (np.cross, (S, V)),
        (lambda a, b: np.cross(a, b, axis=0), (S, S.T)),
        (lambda a, b: np.cross(a, b, axisa=0, axisb=1, axisc=0), (B, A)),
        (np.linalg.cross, (S, W)),
        (np.vecdot, (A, V)),
        (np.vecdot, (C, C[0])),
        (lambda a, b: vecdot(a, b, axis=0), (A, A[:, :1])),
        (np.linalg.vecdot, (C, V)),
        (lambda a, b: linalg_vecdot(a, b, axis=0), (C, C)),
        (np.tensordot, (T, np.transpose(T, (1, 2, 0)))),
        (lambda a, b: np.tensordot(a, b, axes=1), (T, U)),
        (lambda a, b: np.tensordot(a, b, axes=0), (A, V)),
        (lambda a, b: np.tensordot(a, b, axes=([0, -1], [2, 0])), (T, U)),
        (lambda a, b: np.tensordot(a, b, axes=(1, 0)), (C, D)),
        (lambda a, b: np.linalg.tensordot(a, b, axes=([1], [0])), (A, B)),
        (lambda a, b: np.tensordot(a, b, axes=([], [])), (A, V)),
    ],
)
def test_products(f, args):
    agrees(f, *args)


@pytest.mark.skipif(not hasattr(np, "matvec"), reason="matvec and vecmat came with NumPy 2.2")
@pytest.mark.parametrize(("name", "args"), [("matvec", (C, V)), ("vecmat", (C[:, 0], C))])
def test_vector_and_matrix(name, args):
    agrees(getattr(np, name), *args)


EINSUMS = [
    ("ij,jk->ik", (A, B)),
    ("ij,jk", (A, B)),
    ("ij,jk->ki", (A, B)),
    ("ji,jk->ik", (B, A.T)),
    ("i,i", (V, W)),
    ("i,j->ij", (V, W)),
    ("ij,ij->", (A, A)),
    ("ij,j", (A, V)),
    ("ii", (S,)),
    ("ii->i", (S,)),
    ("iij->j", (np.stack([S, 2 * S, S.T], axis=2),)),
    ("iii->i", (np.stack([S, 2 * S, S.T]),)),
    ("ij->ji", (A,)),
    ("ij->", (A,)),
    ("ij->j", (A,)),
    ("ba", (A,)),
    ("...ij->...ji", (T,)),
    ("...ij,...jk->...ik", (T, U[:, 0])),
    ("...j,j", (T[..., :3], V)),
    ("i...,i...->...", (A, A)),
    ("bij,bjk->bik", (T, np.transpose(T, (0, 2, 1)))),
    ("bij,bij->b", (T, T)),
    ("bij,jb->i", (T, T[:, 0].T)),
    ("ij,jk,kl->il", (A, B, A)),
    ("ij,jk,kl", (A, B, A)),
    ("i,ij,j->", (V[:2], A, V)),
    ("ii,i->", (S, V)),
    ("ii,jj->ij", (S, S)),
    ("ij,kj->", (A, S)),
    ("i,j,k->kji", (V, W, V)),
    ("ij,ij->ij", (A[:1], A)),
    ("...,...->...", (A, V)),
    ("ij,jk->ik", (C, D)),
    ("ij,ij->", (C, C)),
    (",ij->ij", (np.float64(0.7), A)),
]


@pytest.mark.parametrize(("subscripts", "operands"), EINSUMS)
def test_einsum(subscripts, operands):
    agrees(lambda *xs: np.einsum(subscripts, *xs), *operands)


@pytest.mark.parametrize("optimize", [True, "greedy", "optimal", ["einsum_path", (1, 2), (0, 1)]])
def test_einsum_optimize(optimize):
    agrees(lambda *xs: np.einsum("ij,jk,kl->il", *xs, optimize=optimize), A, B, A)


def test_einsum_of_numbered_indices():
    agrees(lambda x, y: np.einsum(x, [0, 1], y, [1, 2], [2, 0]), A, B)
    agrees(lambda x, y: np.einsum(x, [3, 1], y, [1, 2]), A, B)
    agrees(lambda x: np.einsum(x, [Ellipsis, 0, 1], [Ellipsis, 1, 0]), T)
    agrees(lambda x: np.einsum(x, [27, 1]), A)


def test_einsum_dtype():
    f = lambda x: np.einsum("ij,ij->i", x, A.astype(np.float32), dtype=np.float64)
    x = A.astype(np.float32)
    assert vk.vjp(f, x)[0].dtype == f(x).dtype == np.float64
    assert vk.grad(lambda x: f(x)[0])(x).dtype == np.float32
    with pytest.raises(TypeError, match="cast"):
        vk.grad(lambda x: np.einsum("ij->", x, dtype=np.float32))(A)


def test_einsum_gives_a_fresh_array():
    x = A.copy()
    out, _ = vk.vjp(lambda x: np.einsum("ij", x), x)
    out[0, 0] = 100.0
    assert x[0, 0] == A[0, 0]


@pytest.mark.parametrize(
    ("subscripts", "operands"),
    [
        ("ij,jk->il", (A, B)),
        ("ij,jk->ii", (A, B)),
        ("ij,jk", (A, A)),
        ("ijk", (A,)),
        ("i", (A,)),
        ("i1", (A,)),
        ("ij,jk", (A,)),
        ("...i->i", (A,)),
        ("ii", (A,)),
    ],
)
def test_einsum_refuses_what_numpy_refuses(subscripts, operands):
    with pytest.raises(ValueError):  # noqa: PT011  # NumPy's texts differ from call to call
        np.einsum(subscripts, *operands)
    with pytest.raises(ValueError, match=r"ein|index|operand"):
        vk.jvp(lambda *xs: np.einsum(subscripts, *xs), operands, operands)


@pytest.mark.parametrize(
    "program",
    [
        "np.dot(x, A)",
        "np.dot(x, np.ones((2, 5, 3)))",
        "np.inner(x, V[:2])",
        "np.vdot(x, V)",
        "np.tensordot(x, A, axes=1)",
        "np.tensordot(x, A, axes=([0], [0, 1]))",
        "np.tensordot(x, A, axes=([5], [0]))",
        "np.linalg.outer(x, V)",
        "np.linalg.cross(x[:, :2], x[:, :2])",
        "x @ A",
    ],
)
def test_shapes_that_do_not_fit(program):
    f = eval(f"lambda x: {program}")
    with pytest.raises((ValueError, IndexError)):
        f(A)
    with pytest.raises((ValueError, IndexError)):
        vk.vjp(f, A)


def test_cross_of_plane_vectors_ends_as_in_numpy():
    f = lambda x: np.cross(x[:2], x[1:])
    assert_same_as_numpy(f, V)
    if outcome(f, V)[1]:  # since NumPy 2.5
        return
    _, wanted = warned(lambda: f(V))
    _, got = warned(lambda: vk.vjp(f, V))
    assert got == wanted
    with pytest.warns(DeprecationWarning, match="2-dimensional vectors"):
        agrees(f, V)
    with pytest.warns(DeprecationWarning, match="2-dimensional vectors"):
        agrees(np.cross, V[:2], W)
    with pytest.warns(DeprecationWarning, match="2-dimensional vectors"):
        agrees(np.cross, W, V[:2])


@pytest.mark.parametrize(
    "program",
    [
        'np.einsum("ij->ji", x, order="F")',
    ],
)
def test_keywords_that_are_not_honoured_are_refused(program):
    f = eval(f"lambda x: {program}")
    with pytest.raises(UnsupportedError, match=r"keyword order="):
        vk.vjp(f, A)


def test_mixed_operands():
    """Lists, integers and plain arrays next to a traced operand."""
    agrees(lambda x: np.dot([[1, 2], [3, 4]], x), A)
    agrees(lambda x: np.einsum("ij,j->i", x, [1, 2, 3]), A)
    agrees(lambda x: np.tensordot(np.arange(6).reshape(3, 2), x, axes=1), A)
    agrees(lambda x: np.kron([1.0, 2.0], x), A)


def test_products_of_many_terms_are_matrix_products(monkeypatch):
    """A contraction goes to BLAS, in value and in both pullbacks."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 30, 20)), rng.normal(size=(20, 5, 25))
    f = lambda x, y: np.einsum("bij,jbk->kbi", x, y)
    wanted = f(x, y)
    out, pullback = vk.vjp(f, x, y)
    assert np.allclose(out, wanted, rtol=1e-13, atol=1e-13)
    monkeypatch.setattr(np, "einsum", lambda *args, **kwargs: pytest.fail("no BLAS"))
    out, pullback = vk.vjp(lambda x, y: vk_contract(x, y), x, y)
    ct = np.ones_like(out)
    x_bar, y_bar = pullback(ct)
    assert np.allclose(x_bar, y.sum(axis=2).T[:, None, :], rtol=1e-12)
    assert np.allclose(y_bar, x.sum(axis=1).T[:, :, None], rtol=1e-12)


def vk_contract(x, y):
    from vjpkit.ops.products import contract

    return contract(x, y, subscripts="bij,jbk->kbi")


def test_einsum_path_looks_at_shapes():
    def f(x):
        path, text = np.einsum_path("ij,jk,kl", x, B, x)
        assert (path, text) == np.einsum_path("ij,jk,kl", A, B, A)
        return np.einsum("ij,jk,kl", x, B, x, optimize=path)

    agrees(f, A)
