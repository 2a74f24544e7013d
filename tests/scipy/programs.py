"""What is asked of every program that calls SciPy: SciPy's values, and derivatives of all kinds."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import vjpkit as vk

__all__ = ["Program", "check"]


class Program(NamedTuple):
    """A function of a module (SciPy's or ours) and of arrays, and a point."""

    name: str
    run: Callable[..., Any]
    args: tuple[Any, ...]
    order: int = 2
    staged: bool = True
    exact: bool = True
    tolerance: float = 1e-9

    def __repr__(self) -> str:
        return self.name


def leaves_of(y: Any) -> list[Any]:
    return vk.tree_util.tree_leaves(y)


def assert_alike(ours: Any, theirs: Any, exact: bool, tolerance: float) -> None:
    """The same values, shapes and dtypes."""
    pairs = list(zip(leaves_of(ours), leaves_of(theirs), strict=True))
    assert pairs
    for a, b in pairs:
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if exact:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def check(ours: Any, theirs: Any, p: Program) -> None:
    """Values are SciPy's, plain and traced; derivatives are those of differences, in every mode;
    a batch is a loop, and a program is what it was made of."""
    f = partial(p.run, ours)
    plain = p.run(theirs, *p.args)
    assert_alike(f(*p.args), plain, True, 0.0)
    assert_alike(vk.vjp(f, *p.args)[0], plain, p.exact, p.tolerance)
    vk.test_util.check_grads(f, p.args, order=p.order)
    several = tuple(np.stack([np.asarray(x), 1.01 * np.asarray(x)]) for x in p.args)
    rows = [f(*[x[i] for x in several]) for i in range(2)]
    for i, row in enumerate(rows):
        mapped = vk.tree_util.tree_map(lambda y, i=i: y[i], vk.vmap(f)(*several))
        assert_alike(mapped, row, False, p.tolerance)
    if not p.staged:
        return
    assert_alike(vk.jit(f)(*p.args), plain, False, p.tolerance)
    total = lambda *args: sum(np.real(np.sum(np.sin(y))) for y in leaves_of(f(*args)))
    argnums = tuple(range(len(p.args)))
    assert_alike(
        vk.jit(vk.grad(total, argnums))(*p.args), vk.grad(total, argnums)(*p.args), False, 1e-7
    )
