"""Matrix products, a neural network, a Gaussian likelihood: where BLAS and LAPACK do the work."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.case import Case, Size, Tree
from benchmarks.cases.arrays import CHEAP


def two_squares(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    n = size[0]
    return ({"a": generator.normal(size=(n, n)), "b": generator.normal(size=(n, n))},)


def product(np: Any, p: Tree) -> Any:
    c = np.matmul(p["a"], p["b"])
    return np.sum(c * c)


def product_by_hand(p: Tree) -> Tree:
    ct = 2.0 * np.matmul(p["a"], p["b"])
    return {"a": np.matmul(ct, p["b"].T), "b": np.matmul(p["a"].T, ct)}


def network(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    batch, wide, hidden, out = size
    parameters = {
        "w1": generator.normal(size=(wide, hidden)) / np.sqrt(wide),
        "b1": generator.normal(size=hidden),
        "w2": generator.normal(size=(hidden, out)) / np.sqrt(hidden),
        "b2": generator.normal(size=out),
    }
    return parameters, generator.normal(size=(batch, wide)), generator.normal(size=(batch, out))


def mlp(np: Any, p: Tree, inputs: Any, wanted: Any) -> Any:
    h = np.tanh(np.matmul(inputs, p["w1"]) + p["b1"])
    d = np.matmul(h, p["w2"]) + p["b2"] - wanted
    return np.sum(d * d)


def mlp_by_hand(p: Tree, inputs: np.ndarray, wanted: np.ndarray) -> Tree:
    h = np.tanh(inputs @ p["w1"] + p["b1"])
    ct = 2.0 * (h @ p["w2"] + p["b2"] - wanted)
    inner = (ct @ p["w2"].T) * (1.0 - h * h)
    return {"w1": inputs.T @ inner, "b1": inner.sum(0), "w2": h.T @ ct, "b2": ct.sum(0)}


def covariance(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    n = size[0]
    points = np.sort(generator.uniform(0.0, n / 20.0, n))
    k = np.exp(-0.5 * (points[:, None] - points) ** 2) + 0.1 * np.eye(n)
    return k, generator.normal(size=n)


def likelihood(np: Any, k: Any, y: Any) -> Any:
    factor = np.linalg.cholesky(k)
    z = np.linalg.solve(factor, y)
    return 0.5 * np.sum(z * z) + np.sum(np.log(np.diag(factor)))


def likelihood_triangular(np: Any, k: Any, y: Any) -> Any:
    factor = np.linalg.cholesky(k)
    z = np.solve_triangular(factor, y)
    return 0.5 * np.sum(z * z) + np.sum(np.log(np.diag(factor)))


def likelihood_by_hand(k: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Half of K^-1 - a a', a = K^-1 y: one potrf, one potri (in K's other triangle: no copy)."""
    from scipy.linalg import lapack

    factor, _ = lapack.dpotrf(k.T, lower=0)
    a, _ = lapack.dpotrs(factor, y, lower=0)
    inverse, _ = lapack.dpotri(factor, lower=0, overwrite_c=1)
    out = inverse + inverse.T
    out.ravel(order="K")[:: len(y) + 1] *= 0.5
    out -= np.outer(a, a)
    out *= 0.5
    return out


def symmetric(tree: Tree) -> Tree:
    """The gradient in a symmetric matrix, however a library splits it between the triangles."""
    return 0.5 * (tree + tree.T)


CASES = (
    Case(
        name="matmul",
        about="the squared norm of a product of two matrices, gradient in both",
        sizes=((32,), (100,), (320,), (1000,)),
        quick=((320,),),
        inputs=two_squares,
        function=product,
        hand=product_by_hand,
        tags=CHEAP,
    ),
    Case(
        name="mlp",
        about="tanh network and squared error; batch x in x hidden x out",
        sizes=((32, 64, 128, 10), (32, 784, 256, 10)),
        quick=((32, 64, 128, 10), (32, 784, 256, 10)),
        inputs=network,
        function=mlp,
        hand=mlp_by_hand,
        measures=("function", "gradient", "vjp", "pullback", "compiled"),
        tags=frozenset({"matrices"}),
    ),
    Case(
        name="likelihood",
        about="Gaussian log-likelihood by np.linalg.cholesky and solve, gradient in K",
        sizes=((100,), (500,), (2000,)),
        quick=((500,),),
        inputs=covariance,
        function=likelihood,
        hand=likelihood_by_hand,
        canonical=symmetric,
        tags=frozenset({"matrices"}),
    ),
    Case(
        name="likelihood-triangular",
        about="the same with a triangular solve, where the library has one",
        sizes=((100,), (500,), (2000,)),
        quick=((500,),),
        inputs=covariance,
        function=likelihood_triangular,
        hand=likelihood_by_hand,
        canonical=symmetric,
        tags=frozenset({"matrices"}),
    ),
)
