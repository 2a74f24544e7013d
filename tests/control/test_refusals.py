"""Bad input to every function of `vjpkit.lax` and to what else `vjpkit.control` makes public.

A case is a call and the words of its message, in order; `HERE` stands for the user's line, which
is a line of this file.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import vjpkit
from tests.test_bad_input import Bad, assert_says
from vjpkit.core.aval import aval_of
from vjpkit.core.errors import NotDifferentiableError, NotLinearError, TracerConversionError

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
bad("ppermute", mapped(lambda x: lax.ppermute(x, "i", [(0, 1), (1, 1)])), ValueError,
    "ppermute: perm=[(0, 1), (1, 1)] must name each destination once", HERE)  # fmt: skip
bad("pshuffle", mapped(lambda x: lax.pshuffle(x, "i", [7])), ValueError,
    "pshuffle: perm=[7] is not a permutation of 0 to", HERE)  # fmt: skip
bad("all_to_all", mapped(lambda x: lax.all_to_all(x, "i", 5, 0)), ValueError,
    "all_to_all: split_axis=5 is no axis of an operand of 1 axis", HERE)  # fmt: skip
bad("pswapaxes", mapped(lambda x: lax.pswapaxes(x, "i", 5)), ValueError,
    "split_axis=5 is no axis of an operand of 1 axis", HERE)  # fmt: skip
bad("psum_scatter", mapped(lambda x: lax.psum_scatter(x, "i", scatter_dimension=2)), ValueError,
    "psum_scatter: scatter_dimension=2 is no axis of an operand of 1 axis", HERE)  # fmt: skip
bad("all_gather", mapped(lambda x: lax.all_gather(x, "i", axis=2)), ValueError,
    "all_gather: axis 2 is out of range for an operand of 1 axis", HERE)  # fmt: skip
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

# -------------------------------------------------------------------------------- loops and choices


def staged(f: Callable[[Any], Any], x: Any = X) -> Callable[[], Any]:
    """A call while the function is staged."""
    return lambda: vk.jit(f)(x)


def everywhere(name: str, f: Callable[[Any], Any], error: type[Exception], *words: str) -> None:
    """The same message on values and while the function is staged."""
    bad(name, lambda: f(X), error, *words)
    bad(name, staged(f), error, *words)


bad("cond", lambda: lax.cond(True, 3, same), TypeError, "cond: true_fun", "int", HERE)
bad("cond", lambda: lax.cond(True, same, 3), TypeError, "cond: false_fun", "int", HERE)
bad("cond", lambda: lax.cond(X > 0, same, same, X), TypeError,
    "cond: pred must be a scalar boolean or number, got bool[3]", HERE, "np.any")  # fmt: skip
bad("cond", lambda: lax.cond("yes", same, same, X), TypeError, "cond: pred", "got str", HERE)
bad("cond", lambda: lax.cond(True, same, same, X, operand=X), TypeError,
    "cond: operand= is given beside 1 operand by position", HERE)  # fmt: skip
bad("switch", lambda: lax.switch(1, [same, same], X, X, operand=X), TypeError,
    "switch: operand= is given beside 2 operands by position", HERE)  # fmt: skip
bad("cond", staged(lambda x: lax.cond(x[0] > 0, same, lambda x: x[:2], x)), TypeError,
    "cond: same returns f64[3], where another branch returns f64[2]", HERE, "reshape")  # fmt: skip
bad("cond", staged(lambda x: lax.cond(x[0] > 0, same, lambda x: (x, x), x)), TypeError,
    "cond: <lambda> returns the tree", "but same returns", HERE, "same tree")  # fmt: skip
bad("cond", staged(lambda x: lax.cond(x[0] > 0, same, lambda x: "a", x)), TypeError,
    "cond: <lambda>", "returned a str", HERE)  # fmt: skip

bad("switch", lambda: lax.switch(0, []), ValueError, "switch: branches is empty", HERE)
bad("switch", lambda: lax.switch(0, [same, 3], X), TypeError, "switch: branches[1]", "int", HERE)
bad("switch", lambda: lax.switch(0.5, [same, same], X), TypeError,
    "switch: index must be an integer, got f64[]", HERE)  # fmt: skip
bad("switch", staged(lambda i: lax.switch(i, [same, same], X)), TypeError,
    "switch: index must be", "f64[3]", HERE)  # fmt: skip

bad("scan", lambda: lax.scan(3, X, X), TypeError, "scan", "function", "int", HERE)
bad("scan", lambda: lax.scan(first, X, None), ValueError,
    "scan: xs has no arrays and length is not given", HERE, "length=")  # fmt: skip
bad("scan", lambda: lax.scan(first, X, {"a": 2.0}), ValueError,
    "scan: ['a'] is a scalar", HERE, "Close over it")  # fmt: skip
bad("scan", lambda: lax.scan(first, X, (X, A)), ValueError,
    "scan: [1] has 2 slices, but 3 are wanted", HERE)  # fmt: skip
bad("scan", lambda: lax.scan(first, X, X, length=4), ValueError,
    "scan: xs has 3 slices, but 4 are wanted", HERE)  # fmt: skip
bad("scan", lambda: lax.scan(first, X, None, length=-1), ValueError,
    "scan: length is -1", HERE)  # fmt: skip
bad("scan", lambda: lax.scan(first, "a", X), TypeError, "scan: init is a str", HERE)
bad("scan", lambda: lax.scan(first, X, X, unroll=-1), ValueError, "scan: unroll must be", "-1")
everywhere("scan", lambda x: lax.scan(lambda c, x: c, x, x), TypeError,
           "scan: <lambda> must return a pair (carry, y)", HERE, "(carry, None)")  # fmt: skip
everywhere("scan", lambda x: lax.scan(lambda c, x: (c[0], x), x, x), TypeError,
           "scan: <lambda> returned carry f64[], but started with f64[3]", HERE,
           "Cast")  # fmt: skip
everywhere("scan", lambda x: lax.scan(lambda c, x: ((c, c), x), x, x), TypeError,
           "scan: <lambda> returned a carry of tree", "started with", HERE)  # fmt: skip

bad("while_loop", lambda: lax.while_loop(3, same, X), TypeError,
    "while_loop: cond_fun", "int", HERE)  # fmt: skip
bad("while_loop", lambda: lax.while_loop(same, 3, X), TypeError,
    "while_loop: body_fun", "int", HERE)  # fmt: skip
bad("while_loop", lambda: lax.while_loop(same, same, "a"), TypeError,
    "while_loop: init_val is a str", HERE)  # fmt: skip
bad("while_loop", lambda: lax.while_loop(lambda x: x > 0, same, X), TypeError,
    "while_loop: what cond_fun returns must be a scalar", "bool[3]", HERE, "np.any")  # fmt: skip
bad("while_loop", staged(lambda x: lax.while_loop(lambda x: x > 0, same, x)), TypeError,
    "while_loop: cond_fun must return a scalar boolean, got bool[3]", HERE, "np.any")  # fmt: skip
everywhere("while_loop", lambda x: lax.while_loop(lambda x: x[0] < 9, lambda x: x[:2], x),
           TypeError, "while_loop: <lambda> returned carry f64[2], but started with f64[3]",
           HERE)  # fmt: skip

bad("fori_loop", lambda: lax.fori_loop(0, 3, 3, X), TypeError,
    "fori_loop: body_fun", "int", HERE)  # fmt: skip
bad("fori_loop", lambda: lax.fori_loop(0, 2.5, first, X), TypeError,
    "fori_loop: upper must be an integer, got f64[]", HERE)  # fmt: skip
bad("fori_loop", lambda: lax.fori_loop(X, 3, first, X), TypeError,
    "fori_loop: lower must be a scalar", "f64[3]", HERE)  # fmt: skip
bad("fori_loop", lambda: lax.fori_loop(0, 3, lambda i, x: x[:2], X), TypeError,
    "returned carry f64[2], but started with f64[3]", HERE)  # fmt: skip

bad("map", lambda: lax.map(3, X), TypeError, "map", "function", "int", HERE)
bad("map", lambda: lax.map(same, X, batch_size=0), ValueError,
    "map: batch_size must be a positive int, got 0", HERE)  # fmt: skip
bad("map", lambda: lax.map(same, 2.0), ValueError, "is a scalar, which has no slices", HERE)
bad("map", lambda: lax.map(same, "a"), TypeError, "map: xs is a str", HERE)

bad("associative_scan", lambda: lax.associative_scan(3, X), TypeError,
    "associative_scan", "function", "int", HERE)  # fmt: skip
bad("associative_scan", lambda: lax.associative_scan(np.add, X, axis=1), ValueError,
    "associative_scan: elems has 1 axis, so there is no axis 1", HERE)  # fmt: skip
bad("associative_scan", lambda: lax.associative_scan(np.add, (X, A)), ValueError,
    "slices along axis 0 disagree: [0] has 3, [1] has 2", HERE)  # fmt: skip
bad("associative_scan", lambda: lax.associative_scan(lambda a, b: (a, b), X), TypeError,
    "associative_scan: <lambda> returned the tree", HERE, "like its arguments")  # fmt: skip
bad("associative_scan", lambda: lax.associative_scan(lambda a, b: a[:1], X[[0, 1, 2, 0]]),
    ValueError, "<lambda> returned shape (1,) at elems for slices of shape (2,)", HERE)  # fmt: skip
bad("associative_scan", lambda: lax.associative_scan(np.add, "a"), TypeError,
    "associative_scan: elems is a str", HERE)  # fmt: skip

bad("select", lambda: lax.select(X > 0, X, X[:2]), TypeError,
    "select: pred, on_true and on_false have the shapes (3,), (3,), (2,)", HERE,
    "np.where")  # fmt: skip
bad("select", lambda: lax.select(X[:2] > 0, X, X), TypeError,
    "select:", "(2,), (3,), (3,)", HERE, "np.where")  # fmt: skip

# ------------------------------------------------------------------------------------ jit and rules

bad("jit", lambda: vk.jit(same, backend="fast"), ValueError,
    "jit(same): no backend is called 'fast'", "'numpy'", HERE)  # fmt: skip
bad("jit", lambda: vk.jit(same, static_argnames="n"), ValueError,
    "jit(same): static_argnames names 'n'", "are x", HERE)  # fmt: skip
bad("jit", lambda: vk.jit(lambda x, n: x, static_argnums=1)(X, [1]), ValueError,
    "jit(<lambda>): static argument", "is a list, which cannot be hashed", HERE,
    "pass a tuple")  # fmt: skip
bad("jit", lambda: vk.jit(same)("a"), TypeError,
    "jit(same): argument 0 is a str", HERE, "static")  # fmt: skip
bad("jit", lambda: vk.jit(lambda x: "a")(X), TypeError, "jit(<lambda>)", "returned a str", HERE)
STRUCT = vk.ShapeDtypeStruct((3,), float)
powers = vk.jit(lambda x, n: np.sin(x) ** n, static_argnums=1)
lowered = lambda: powers.lower(X, 2).compile()
bad("jit", lambda: vk.jit(same)(STRUCT), TypeError,
    "jit: an argument is a ShapeDtypeStruct, which has no value", HERE, "lower")  # fmt: skip
bad("jit", lambda: powers.lower(X, [2]), ValueError,
    "jit(<lambda>): static argument", "is a list, which cannot be hashed", HERE)  # fmt: skip
bad("jit", lambda: powers.lower("a", 2), TypeError,
    "jit(<lambda>): argument 0 is a str", HERE, "static")  # fmt: skip
bad("jit", lambda: powers.lower(X), TypeError, "missing 1 required positional argument: 'n'")
AHEAD = "jit(<lambda>).lower(...).compile(): "
for wrong in (X[:2], X.astype("f4"), np.arange(3), X[0]):
    bad("jit", partial(lambda x: lowered()(x), wrong), TypeError,
        f"{AHEAD}argument 0 is {aval_of(wrong)}, and was f64[3] when it was compiled", HERE,
        "Lower it for arguments like these")  # fmt: skip
for many in ((), (X, 2), (X, X), ([X],)):
    bad("jit", partial(lambda args: lowered()(*args), many), TypeError,
        f"{AHEAD}the tree of the arguments", "when it was compiled", HERE,
        "static arguments are fixed and left out")  # fmt: skip
bad("jit", lambda: lowered()("a"), TypeError, f"{AHEAD}argument 0 is a str", HERE)
bad("jit", lambda: lowered()(STRUCT), TypeError,
    f"{AHEAD}argument 0 is ShapeDtypeStruct, and it takes values alone", HERE)  # fmt: skip
bad("jit", inside(lambda x: lowered()(x)), TypeError,
    f"{AHEAD}argument 0 is a traced f64[3], and it takes values alone", HERE,
    "composes with every transform")  # fmt: skip
bad("jit", lambda: vk.vmap(lowered())(np.stack([X, X])), TypeError,
    f"{AHEAD}argument 0 is a traced f64[3], and it takes values alone", HERE)  # fmt: skip

bad("jit", staged(lambda x: x if x[0] > 0 else -x), TracerConversionError,
    "is not known while the function is being staged", HERE, "np.where", "vk.lax.cond")  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c.name}" for i, c in enumerate(CASES)])
def test_message(case: Bad) -> None:
    with pytest.raises(case.error) as caught:
        case.call()
    assert_says(caught.value, case.words)


def test_every_function_of_control_is_tried() -> None:
    """What `vjpkit.lax` has of loops, choices, solvers and collectives."""
    tried = {case.name for case in CASES}
    layers = ("vjpkit.control.", "vjpkit.transforms.collectives")
    public = {name for name in lax.__all__ if getattr(lax, name).__module__.startswith(layers)}
    assert public
    assert not public - tried
