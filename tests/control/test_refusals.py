"""Bad input to every function of `vjpkit.lax` and to what else `vjpkit.control` makes public.

A case is a call and the words of its message, in order; `HERE` stands for the user's line, which
is a line of this file.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vjpkit
from tests.test_bad_input import Bad, assert_says
from vjpkit.core.errors import NotDifferentiableError, NotLinearError

# These calls are wrong on purpose, and a type checker would be the first to say so.
vk: Any = vjpkit
lax: Any = vjpkit.lax

HERE = "test_refusals.py:"
X = np.array([1.0, 2.0, 3.0])
A = np.arange(6.0).reshape(2, 3)
CASES: list[Bad] = []


def bad(name: str, call: Callable[[], Any], error: type[Exception], *words: str) -> None:
    CASES.append(Bad(name, call, error, words))


def same(x: Any) -> Any:
    return x


def first(_: Any, x: Any) -> Any:
    return x


def inside(f: Callable[[Any], Any]) -> Callable[[], Any]:
    """A call while a transform runs."""
    return lambda: vk.grad(lambda x: np.sum(f(x)))(X)


# ----------------------------------------------------------------------- solvers and external code

SOLVE = "custom_linear_solve(same)"
bad("custom_linear_solve", lambda: lax.custom_linear_solve(3, X, first), TypeError,
    "custom_linear_solve(int): matvec", "function", "int", HERE)  # fmt: skip
bad("custom_linear_solve", lambda: lax.custom_linear_solve(same, X, 3), TypeError,
    f"{SOLVE}: solve", "function", "int", HERE)  # fmt: skip
bad("custom_linear_solve", lambda: lax.custom_linear_solve(same, X, first, 3), TypeError,
    f"{SOLVE}: transpose_solve", "int", HERE)  # fmt: skip
bad("custom_linear_solve", lambda: lax.custom_linear_solve(same, np.arange(3), first), TypeError,
    f"{SOLVE}: b has a leaf i64[3]", HERE, "astype(float)")  # fmt: skip
bad("custom_linear_solve", lambda: lax.custom_linear_solve(same, (), first), TypeError,
    f"{SOLVE}: b has no arrays", HERE)  # fmt: skip
bad("custom_linear_solve", lambda: lax.custom_linear_solve(same, {"a": "b"}, first), TypeError,
    f"{SOLVE}: b at ['a'] is a str", HERE)  # fmt: skip
bad("custom_linear_solve",
    inside(lambda x: lax.custom_linear_solve(lambda v: v * v, x, first, first)), NotLinearError,
    "matvec is not linear in its argument", HERE, "custom_root")  # fmt: skip
bad("custom_linear_solve", inside(lambda x: lax.custom_linear_solve(lambda v: v[:2], x, first)),
    TypeError, "matvec must return what it takes", "f64[3]", "f64[2]", HERE)  # fmt: skip
bad("custom_linear_solve", inside(lambda x: lax.custom_linear_solve(same, x, first)),
    NotDifferentiableError, f"{SOLVE}: reverse mode", HERE, "transpose_solve=",
    "symmetric=True")  # fmt: skip
bad("custom_linear_solve", inside(lambda x: lax.custom_linear_solve(same, x, lambda *_: X[:1])),
    ValueError, "<lambda> returned a solution f64[1], but f64[3] is wanted", HERE)  # fmt: skip
bad("custom_linear_solve", inside(lambda x: lax.custom_linear_solve(same, x, lambda *_: X * 1j)),
    ValueError, "<lambda> returned a solution c128[3], but f64[3] is wanted", HERE)  # fmt: skip

ROOT = "custom_root(same)"
bad("custom_root", lambda: lax.custom_root(3, X, first, first), TypeError,
    "custom_root(int): f", "function", "int", HERE)  # fmt: skip
bad("custom_root", lambda: lax.custom_root(same, X, 3, first), TypeError,
    f"{ROOT}: solve", "int", HERE)  # fmt: skip
bad("custom_root", lambda: lax.custom_root(same, X, first, None), TypeError,
    f"{ROOT}: tangent_solve", "NoneType", HERE)  # fmt: skip
bad("custom_root", lambda: lax.custom_root(same, 1, first, first), TypeError,
    f"{ROOT}: initial_guess has a leaf i64[]", HERE, "astype(float)")  # fmt: skip
bad("custom_root", inside(lambda x: lax.custom_root(lambda v: v - x, 1.0, first, first)),
    TypeError, "f must return what it takes, f64[], got f64[3]", HERE, "shapes")  # fmt: skip
bad("custom_root", inside(lambda x: lax.custom_root(lambda v: v - x, X, first, first, True)),
    TypeError, "has_aux=True first must return a pair", "ndarray", HERE)  # fmt: skip

bad("numeric_vjp", lambda: vk.numeric_vjp(same, method="exact"), ValueError,
    "numeric_vjp: method must be one of 'central'", "'exact'", HERE)  # fmt: skip
bad("numeric_vjp", lambda: vk.numeric_vjp(same, step=-1.0), ValueError,
    "numeric_vjp: step must be a positive number", "-1.0", HERE)  # fmt: skip
bad("numeric_vjp", lambda: vk.numeric_vjp(same, result=3.0), TypeError,
    "numeric_vjp: result must be a tree of ShapeDtypeStruct", "float", HERE)  # fmt: skip
bad("numeric_vjp", lambda: vk.numeric_vjp(same)(X + 1j), TypeError,
    "numeric_vjp(same): an argument is complex, c128[3]", HERE, "two arguments")  # fmt: skip
bad("numeric_vjp", lambda: vk.numeric_vjp(lambda x: "a")(X), TypeError,
    "numeric_vjp(<lambda>)", "returned a str", HERE)  # fmt: skip


# --------------------------------------------------------------------------------- collectives


def mapped(f: Callable[[Any], Any], name: Any = "i") -> Callable[[], Any]:
    return lambda: vk.vmap(f, axis_name=name)(A)


def collective(f: Any, name: str) -> None:
    bad(name, lambda: f(X, "i"), NameError, f"{name}: no vmap with axis_name='i' runs here", HERE,
        "vk.vmap(f, axis_name='i')")  # fmt: skip
    bad(name, mapped(lambda x: f(x, "k")), NameError,
        f"{name}: no vmap with axis_name='k' runs here; there are 'i'", HERE)  # fmt: skip
    bad(name, mapped(lambda x: f({"a": "b"}, "i")), TypeError,
        f"{name}: the operand at ['a'] is a str", HERE)  # fmt: skip


for _name in ("psum", "pmean", "pmax", "pmin", "all_gather"):
    collective(getattr(lax, _name), _name)
bad("axis_index", lambda: lax.axis_index("i"), NameError,
    "axis_index: no vmap with axis_name='i'", HERE)  # fmt: skip
bad("axis_size", lambda: lax.axis_size("i"), NameError,
    "axis_size: no vmap with axis_name='i'", HERE)  # fmt: skip
bad("psum", mapped(lambda x: lax.psum(x, ("i", "j"))), NameError, "axis_name='j'", "'i'", HERE)
bad("all_gather", mapped(lambda x: lax.all_gather(x, "i", axis=2)), ValueError,
    "all_gather: axis 2 is out of range for an operand of 1 axes", HERE)  # fmt: skip
bad("all_gather", mapped(lambda x: lax.all_gather(x, "i", axis=1, tiled=True)), ValueError,
    "all_gather: axis 1 is out of range", HERE)  # fmt: skip
bad("all_gather", mapped(lambda x: lax.all_gather(x, "i", axis="a")), TypeError,
    "all_gather: axis must be an int, got 'a'", HERE)  # fmt: skip
bad("vmap", lambda: vk.vmap(same, axis_name=["i"]), TypeError,
    "axis_name must be a string or another hashable name, got a list", HERE, "Nest")  # fmt: skip
bad("vmap", lambda: vk.vmap(same, axis_name=("i", "j")), TypeError,
    "axis_name must be", "tuple", HERE, "Nest")  # fmt: skip

# ---------------------------------------------------------------------------- checkpoints of loops

LOOPS: dict[str, Callable[..., Any]] = {
    "scan": lambda **options: lax.scan(lambda c, _: (c, None), X, None, 3, **options),
    "fori_loop": lambda **options: lax.fori_loop(0, 3, lambda _, c: c, X, **options),
    "while_loop": lambda **options: lax.while_loop(lambda c: c[0] < 0, same, X, **options),
}


def checkpointed(loop: Callable[..., Any], name: str) -> None:
    bad(name, lambda: loop(slots=3), TypeError,
        f"{name}: slots= and memory= are options of checkpoint='revolve'", HERE)  # fmt: skip
    bad(name, lambda: loop(checkpoint=True, slots=3), ValueError,
        f"{name}: checkpoint must be 'revolve' or None, got True", HERE)  # fmt: skip
    bad(name, lambda: loop(checkpoint="revolve"), TypeError,
        f"{name}: give slots=", "memory=", HERE)  # fmt: skip
    bad(name, lambda: loop(checkpoint="revolve", slots=3, memory=10), TypeError,
        f"{name}: give slots=", "memory=", HERE)  # fmt: skip
    bad(name, lambda: loop(checkpoint="revolve", slots=0), ValueError,
        f"{name}: slots must be a positive int, got 0", HERE)  # fmt: skip
    bad(name, lambda: loop(checkpoint="revolve", memory="much"), ValueError,
        f"{name}: memory must be a number of bytes", "'much'", HERE)  # fmt: skip


for _name, _loop in LOOPS.items():
    checkpointed(_loop, _name)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c.name}" for i, c in enumerate(CASES)])
def test_message(case: Bad) -> None:
    with pytest.raises(case.error) as caught:
        case.call()
    assert_says(caught.value, case.words)
