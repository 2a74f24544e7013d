"""Bad input to every public function: each message names the function, the place, and a way on.

A case is a call and the words of its message, in order; `HERE` stands for the user's line, which
is a line of this file.
"""

import io
import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy
import pytest

import vjpkit.numpy
import vjpkit.test_util
from vjpkit.core.errors import (
    ClosedTraceError,
    NotDifferentiableError,
    NotLinearError,
    TracerConversionError,
    UnsupportedError,
)
from vjpkit.flatten_util import ravel_pytree

# These calls are wrong on purpose, and a type checker would be the first to say so.
np: Any = numpy
vk: Any = vjpkit
vnp: Any = vjpkit.numpy
tu: Any = vjpkit.test_util

HERE = "test_bad_input.py:"
X = np.array([1.0, 2.0, 3.0])
A = np.arange(6.0).reshape(2, 3)
INTS = np.arange(3)
MASKED = np.ma.masked_array(X, [0, 1, 0])
MATRIX = np.array([[1.0, 2.0], [3.0, 4.0]]).view(np.matrix)
SQUARE = np.ones((2, 2))


def energy(x: Any) -> Any:
    return np.sum(x * x)


def same(x: Any) -> Any:
    return x


def pair(x: Any) -> Any:
    return {"a": x * x, "b": x[0]}


def undefined(x: Any) -> Any:
    return x


class Bad(NamedTuple):
    """A wrong call, what it raises, and words of the message in their order."""

    name: str
    call: Callable[[], Any]
    error: type[Exception]
    words: tuple[str, ...]


CASES: list[Bad] = []


def bad(name: str, call: Any, error: type[Exception], *words: str) -> None:
    """Add a case; in a loop, ``call`` binds the loop's variable as a default."""
    CASES.append(Bad(name, call, error, words))


def assert_says(error: BaseException, words: Sequence[str]) -> None:
    """The message has these words in this order, and ends a sentence about something."""
    text = str(error)
    place = 0
    for word in words:
        found = text.find(word, place)
        assert found >= 0, f"no {word!r} (after column {place}) in:\n{text}"
        place = found + len(word)


def each(*functions: Callable[..., Any]) -> list[Any]:
    """Functions as parameters of a test, numbered, for lambdas all have one name."""
    return [pytest.param(f, id=str(i)) for i, f in enumerate(functions)]


# ------------------------------------------------------------------------------ not a function

NOT_A_FUNCTION: dict[str, Callable[[Any], Any]] = {
    "grad": vk.grad,
    "value_and_grad": vk.value_and_grad,
    "vjp": lambda f: vk.vjp(f, X),
    "jvp": lambda f: vk.jvp(f, (X,), (X,)),
    "linearize": lambda f: vk.linearize(f, X),
    "linear_transpose": lambda f: vk.linear_transpose(f, X),
    "jacrev": vk.jacrev,
    "jacfwd": vk.jacfwd,
    "jacobian": vk.jacobian,
    "hessian": vk.hessian,
    "hvp": lambda f: vk.hvp(f, (X,), (X,)),
    "vmap": vk.vmap,
    "make_ir": vk.make_ir,
    "eval_shape": lambda f: vk.eval_shape(f, X),
    "closure_convert": lambda f: vk.closure_convert(f, X),
    "custom_vjp": vk.custom_vjp,
    "custom_jvp": vk.custom_jvp,
    "custom_rule": vk.custom_rule,
    "numeric_vjp": vk.numeric_vjp,
    "jit": vk.jit,
    "checkpoint_loop": lambda f: vk.checkpoint_loop(f, X, range(3), 2),
    "checkpoint": vk.checkpoint,
    "remat": vk.remat,
    "check_grads": lambda f: tu.check_grads(f, (X,), 1),
}


@pytest.mark.parametrize("thing", [3, "f", X], ids=["int", "str", "ndarray"])
@pytest.mark.parametrize("name", NOT_A_FUNCTION)
def test_what_is_no_function_is_refused(name: str, thing: Any) -> None:
    said = {"remat": "checkpoint"}.get(name, name)
    with pytest.raises(TypeError) as caught:
        NOT_A_FUNCTION[name](thing)
    kind = type(thing).__name__
    assert_says(caught.value, (said, "the first argument must be a function", f"got {kind}", HERE))


# ----------------------------------------------------------------------- arguments of gradients

SCALAR_LIKE: dict[str, Callable[..., Any]] = {
    "grad": vk.grad,
    "value_and_grad": vk.value_and_grad,
    "jacrev": vk.jacrev,
    "jacfwd": vk.jacfwd,
    "jacobian": vk.jacobian,
    "hessian": vk.hessian,
}
TEXT = np.array(["a", "b"])
DAYS = np.array(["2020-01-01"], "M8[D]")
BOXES = np.array([1.0, None], dtype=object)


@pytest.mark.parametrize("name", SCALAR_LIKE)
@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("a", ("argument 0 is a str", "neither an array nor a number", HERE, "other argnums")),
        (b"a", ("argument 0 is a bytes", HERE, "closure")),
        ({1.0}, ("argument 0 is a set", HERE)),
        (range, ("argument 0 is a type", HERE)),
        ((x for x in [1.0]), ("argument 0 is a generator", HERE, "closure")),
        (True, ("argument 0 is a bool", HERE, "Cast it, e.g. x.astype(float)", "allow_int")),
        (INTS, ("argument 0 is i64[3]", HERE, "Cast it, e.g. x.astype(float)")),
        ({"w": X, "n": INTS}, ("argument 0 at ['n'] is i64[3]", HERE, "Cast it")),
        ({"w": [X, "oops"]}, ("argument 0 at ['w'][1] is a str", HERE, "closure")),
        (TEXT, ("argument 0:", "dtype <U1", "not supported", HERE)),
        (DAYS, ("argument 0:", "dtype datetime64[D]", "not supported", HERE)),
        (BOXES, ("argument 0:", "NoneType is not an array or a number", HERE)),
        (MASKED, ("argument 0:", "MaskedArray", HERE, "Pass its .data", "mask")),
        (MATRIX, ("argument 0:", "matrix", HERE, "Pass np.asarray(x)")),
        ({"m": MASKED}, ("argument 0 at ['m']:", "MaskedArray", HERE, "Pass its .data")),
    ],
)
def test_arguments_without_derivative(name: str, argument: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(TypeError) as caught:
        SCALAR_LIKE[name](energy)(argument)
    assert_says(caught.value, (f"{name}(energy)", *words))


@pytest.mark.parametrize("name", SCALAR_LIKE)
@pytest.mark.parametrize(
    ("argnums", "words"),
    [
        ("0", ("argnums must be an int or a tuple of ints, got '0'", HERE)),
        (0.0, ("argnums must be an int", "got 0.0", HERE)),
        (None, ("argnums must be an int", "got None", HERE)),
        (True, ("argnums must be an int", "got True", HERE)),
        ({0}, ("argnums must be an int", "got {0}", HERE)),
        ((0, "x"), ("argnums must be an int", "got (0, 'x')", HERE)),
        (
            1,
            ("argnums=1 is out of range: the call has 1 positional argument ", HERE, "by position"),
        ),
        (-2, ("argnums=-2 is out of range", HERE, "keywords are not differentiated")),
        ((0, 0), ("argnums=(0, 0) names an argument twice", HERE)),
        ((0, -1), ("argnums=(0, -1) names an argument twice", HERE)),
    ],
)
def test_argnums(name: str, argnums: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(TypeError) as caught:
        SCALAR_LIKE[name](energy, argnums=argnums)(X)
    assert_says(caught.value, (f"{name}(energy)", *words))


@pytest.mark.parametrize("name", SCALAR_LIKE)
def test_only_keywords(name: str) -> None:
    with pytest.raises(TypeError) as caught:
        SCALAR_LIKE[name](energy)(x=X)
    assert_says(caught.value, (f"{name}(energy)", "0 positional arguments", HERE, "by position"))


@pytest.mark.parametrize("transform", [vk.grad, vk.value_and_grad])
@pytest.mark.parametrize(
    ("fun", "words"),
    [
        (lambda x: x, ("returned an array f64[3]", "scalar ()", HERE, "np.sum(...)", "jacrev")),
        (lambda x: x[:1], ("returned an array f64[1]", HERE, "Return y[0]", "one element")),
        (lambda x: np.array([x[0], 2.0]), ("returned an array f64[2]", HERE, "np.sum(...)")),
        (lambda x: None, ("returned NoneType", HERE, "np.sum(...)")),
        (lambda x: (x[0], x[1]), ("returned tuple", HERE, "has_aux=True")),
        (lambda x: {"a": x[0]}, ("returned dict", HERE, "has_aux=True")),
        (lambda x: "a", ("returned str", HERE, "np.sum(...)")),
        (lambda x: (y for y in x), ("returned generator", HERE, "np.sum(...)")),
        (lambda x: np.argmax(x), ("returned i64[]", "floating-point", HERE, "return a float")),
        (lambda x: 3, ("returned i64[]", "floating-point", HERE, "return a float")),
        (lambda x: x[0] > 0, ("returned bool[]", "floating-point", HERE, "return a float")),
        (lambda x: math.floor(x[0]), ("returned i64[]", HERE, "return a float")),
        (lambda x: x[0] * 1j, ("returned a complex number", HERE, "real part", "holomorphic=True")),
    ],
)
def test_outputs_that_are_no_real_scalar(
    transform: Any, fun: Callable[..., Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(TypeError) as caught:
        transform(fun)(X)
    assert_says(caught.value, (f"{transform.__name__}(<lambda>): the function", *words))


AUX: dict[str, Callable[[Any], Any]] = {
    "grad": lambda f: vk.grad(f, has_aux=True)(X),
    "value_and_grad": lambda f: vk.value_and_grad(f, has_aux=True)(X),
    "vjp": lambda f: vk.vjp(f, X, has_aux=True),
    "jvp": lambda f: vk.jvp(f, (X,), (X,), has_aux=True),
    "linearize": lambda f: vk.linearize(f, X, has_aux=True),
    "jacrev": lambda f: vk.jacrev(f, has_aux=True)(X),
    "jacfwd": lambda f: vk.jacfwd(f, has_aux=True)(X),
    "jacobian": lambda f: vk.jacobian(f, has_aux=True)(X),
    "hessian": lambda f: vk.hessian(f, has_aux=True)(X),
}


@pytest.mark.parametrize("name", AUX)
@pytest.mark.parametrize(
    ("fun", "got"),
    [
        (lambda x: x[0], r"got a traced f64\[\]"),
        (lambda x: (x[0], 1, 2), "got tuple"),
        (lambda x: [x[0], 1], "got list"),
        (lambda x: None, "got NoneType"),
    ],
)
def test_aux_needs_a_pair(name: str, fun: Callable[..., Any], got: str) -> None:
    with pytest.raises(TypeError, match=rf"must return a pair \(output, aux\), {got}") as caught:
        AUX[name](fun)
    assert_says(caught.value, (f"{name}(<lambda>)", "has_aux=True", HERE))


OUTPUTS: dict[str, Callable[[Any], Any]] = {
    "vjp": lambda f: vk.vjp(f, X),
    "jvp": lambda f: vk.jvp(f, (X,), (X,)),
    "linearize": lambda f: vk.linearize(f, X),
    "linear_transpose": lambda f: vk.linear_transpose(f, X),
    "jacrev": lambda f: vk.jacrev(f)(X),
    "jacfwd": lambda f: vk.jacfwd(f)(X),
    "jacobian": lambda f: vk.jacobian(f)(X),
    "hessian": lambda f: vk.hessian(f)(X),
    "vmap": lambda f: vk.vmap(f)(A),
    "make_ir": lambda f: vk.make_ir(f)(X),
    "eval_shape": lambda f: vk.eval_shape(f, X),
    "closure_convert": lambda f: vk.closure_convert(f, X),
    "checkpoint": lambda f: vk.vjp(vk.checkpoint(f), X),
    "check_grads": lambda f: tu.check_grads(f, (X,), 1),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_are_trees_of_arrays(name: str) -> None:
    with pytest.raises(TypeError) as caught:
        OUTPUTS[name](lambda x: "text")
    assert_says(caught.value, (name, "the function returned a str", HERE))
    with pytest.raises(TypeError) as caught:
        OUTPUTS[name](lambda x: {"a": x, "b": ["text"]})
    assert_says(caught.value, (name, "the function returned a str at ['b'][0]", HERE))
    with pytest.raises(TypeError) as caught:
        OUTPUTS[name](lambda x: np.array(["text"]))
    assert_says(caught.value, (name, "the function's output", "dtype <U4", "not supported", HERE))


@pytest.mark.parametrize("name", [n for n in OUTPUTS if n != "check_grads"])
def test_lists_of_traced_values_may_be_returned(name: str) -> None:
    """``np.array([t1, t2])`` is an object array: it is stacked, not lost."""
    OUTPUTS[name](lambda x: np.array([x[0], 2.0 * x[1]]))


for mode in (vk.jacrev, vk.jacfwd, vk.jacobian, vk.hessian):
    name = mode.__name__
    bad(
        name,
        lambda m=mode: m(lambda x: np.argmax(x))(X),
        TypeError,
        f"{name}(<lambda>)",
        "integer or boolean",
        "has_aux=True",
    )
    bad(
        name,
        lambda m=mode: m(lambda x: x * 1j)(X),
        TypeError,
        f"{name}(<lambda>)",
        "complex values",
        "holomorphic=True",
        "real and imaginary",
    )
    bad(
        name,
        lambda m=mode: m(same, holomorphic=True)(X),
        TypeError,
        f"{name}(same)",
        "holomorphic=True needs complex arguments and complex outputs",
    )
    bad(
        name,
        lambda m=mode: m(same, chunk_size=0),
        ValueError,
        "chunk_size must be a positive int, got 0",
    )
    bad(
        name,
        lambda m=mode: m(same, chunk_size="all"),
        ValueError,
        "chunk_size must be a positive int, got 'all'",
    )
bad("jacobian", lambda: vk.jacobian(same, mode="both"), ValueError, "mode must be 'auto'", "'both'")
bad(
    "jacobian",
    lambda: vk.jacobian(np.sin)(np.zeros(10**7)),
    MemoryError,
    "jacobian(sin)",
    "800000.0 GB",
    "Use products",
    "vjp, jvp, hvp",
)
for scalar in (vk.grad, vk.value_and_grad):
    name = scalar.__name__
    bad(
        name,
        lambda t=scalar: t(lambda x: x[0], holomorphic=True)(X),
        TypeError,
        f"{name}(<lambda>)",
        "needs complex arguments, got f64[3]",
        "astype(complex)",
    )
    bad(
        name,
        lambda t=scalar: t(lambda x: abs(x[0]), holomorphic=True)(X * 1j),
        TypeError,
        f"{name}(<lambda>)",
        "returned f64[], which is real",
        HERE,
        "holomorphic=True out",
    )

# ----------------------------------------------------------------------------------------- vjp, jvp

bad("vjp", lambda: vk.vjp(energy, "a"), TypeError, "vjp(energy)", "[0] is a str", HERE)
bad("vjp", lambda: vk.vjp(pair, {"x": "a"}), TypeError, "vjp(pair)", "[0]['x'] is a str", HERE)
bad("vjp", lambda: vk.vjp(energy, MASKED), TypeError, "vjp(energy)", "MaskedArray", HERE, ".data")
bad("vjp", lambda: vk.vjp(energy, X)[1](), TypeError, "vjp(energy) takes 1 argument", "f64[]", "0")
bad("vjp", lambda: vk.vjp(energy, X)[1](1.0, 2.0), TypeError, "vjp(energy) takes 1 argument", "2")
bad(
    "vjp",
    lambda: vk.vjp(energy, X)[1]((1.0,)),
    ValueError,
    "vjp(energy)",
    "at the root, expected a leaf, got a tuple (*,)",
    "structure *",
)
bad("vjp", lambda: vk.vjp(energy, X)[1](None), ValueError, "vjp(energy)", "wrong tree", "root")
bad(
    "vjp",
    lambda: vk.vjp(energy, X)[1](X),
    ValueError,
    "vjp(energy): got f64[3], but f64[] is wanted",
    "shape () and dtype float64",
)
bad("vjp", lambda: vk.vjp(energy, X)[1]("a"), ValueError, "vjp(energy): got str, but f64[]")
bad("vjp", lambda: vk.vjp(energy, X)[1](1j), ValueError, "vjp(energy): got complex, but f64[]")
bad(
    "vjp",
    lambda: vk.vjp(energy, X)[1](np.float32(1)),
    ValueError,
    "vjp(energy): got f32[], but f64[] is wanted",
    "Cast it: .astype(np.float64)",
)
bad(
    "vjp",
    lambda: vk.vjp(pair, X)[1]({"a": X, "c": 1.0}),
    ValueError,
    "vjp(pair)",
    "at the root, missing keys ['b'], unexpected keys ['c']",
    "{'a': *, 'b': *}",
)
bad(
    "vjp",
    lambda: vk.vjp(pair, X)[1]({"a": X[:2], "b": 1.0}),
    ValueError,
    "vjp(pair): got f64[2] at ['a'], but f64[3] is wanted",
    "shape (3,)",
)
bad(
    "vjp",
    lambda: vk.vjp(pair, X)[1]({"a": INTS, "b": 1.0}),
    ValueError,
    "vjp(pair): got i64[3] at ['a'], but f64[3] is wanted",
    "Cast it",
)
bad(
    "vjp",
    lambda: vk.vjp(pair, X)[1]({"a": X.tolist(), "b": 1.0}),
    ValueError,
    "vjp(pair)",
    "at ['a'], expected a leaf, got a list",
)
bad("vjp", lambda: vk.vjp(same, X)[1](MASKED), UnsupportedError, "MaskedArray", HERE, "its .data")
bad(
    "vjp",
    lambda: vk.vjp(lambda x: x * SQUARE, SQUARE)[1](MATRIX),
    UnsupportedError,
    "matrix",
    HERE,
    "np.asarray(x)",
)

bad(
    "jvp",
    lambda: vk.jvp(energy, X, X),
    TypeError,
    "jvp(energy)",
    "tuples or lists",
    "got ndarray and ndarray",
    HERE,
    "Write jvp(energy, (x,), (t,))",
)
bad(
    "jvp",
    lambda: vk.jvp(energy, (X,), (X, X)),
    TypeError,
    "jvp(energy): primals and tangents must have the same tree",
    HERE,
)
bad("jvp", lambda: vk.jvp(energy, (X,), (None,)), TypeError, "jvp(energy)", "same tree", HERE)
bad("jvp", lambda: vk.jvp(pair, ({"a": X},), ({"b": X},)), TypeError, "same tree", "'b'", HERE)
bad("jvp", lambda: vk.jvp(energy, ("a",), ("a",)), TypeError, "jvp(energy)", "[0] is a str", HERE)
bad("jvp", lambda: vk.jvp(energy, (X,), ("a",)), ValueError, "got str at [0]", "f64[3] is wanted")
bad(
    "jvp",
    lambda: vk.jvp(energy, (X,), (X[:2],)),
    ValueError,
    "jvp(energy): got f64[2] at [0], but f64[3] is wanted",
    "shape (3,)",
)
bad(
    "jvp",
    lambda: vk.jvp(energy, (X,), (X.astype(np.float32),)),
    ValueError,
    "jvp(energy): got f32[3] at [0], but f64[3] is wanted",
    "Cast it",
)
bad(
    "jvp",
    lambda: vk.jvp(lambda d: d["b"] * 1.0, ({"a": X, "b": X},), ({"a": X, "b": X[:1]},)),
    ValueError,
    "got f64[1] at [0]['b'], but f64[3] is wanted",
)
bad(
    "jvp",
    lambda: vk.jvp(lambda n, x: n * x, (INTS, 2.0), (np.ones(3), 0.0)),
    ValueError,
    "jvp(<lambda>)",
    "other than zero at [0]",
    "integer",
    "Cast the argument to float",
)
bad("jvp", lambda: vk.jvp(same, (SQUARE,), (MATRIX,)), UnsupportedError, "matrix", HERE)
bad(
    "hvp",
    lambda: vk.hvp(energy, X, X),
    TypeError,
    "hvp(energy)",
    "tuples or lists",
    HERE,
    "Write hvp(energy, (x,), (t,))",
)
bad("hvp", lambda: vk.hvp(energy, (X,), (X[:2],)), ValueError, "hvp(energy): got f64[2] at [0]")
bad("hvp", lambda: vk.hvp(energy, (X,), ()), TypeError, "hvp(energy)", "same tree", HERE)
bad("hvp", lambda: vk.hvp(same, (X,), (X,)), TypeError, "hvp(same)", "an array f64[3]", HERE)
bad(
    "hvp",
    lambda: vk.hvp(energy, (INTS,), (X,)),
    ValueError,
    "hvp(energy)",
    "other than zero at [0]",
    "Cast the argument to float",
)

# ---------------------------------------------------------------------------------------- LinearMap

LINEAR = vk.linearize(same, X)[1]
PULLBACK = vk.vjp(lambda x: x * x, X)[1]
SHORTER = vk.vjp(lambda x: x[:2], X)[1]
PAIRED = vk.vjp(pair, X)[1]
FREED = vk.vjp(lambda x: x * x, X)[1]
FREED.free()

bad(
    "linearize",
    lambda: vk.linearize(energy, "a"),
    TypeError,
    "linearize(energy)",
    "[0] is a str",
    HERE,
)
bad("linearize", lambda: LINEAR(X[:2]), ValueError, "linearize(same): got f64[2] at [0]", "(3,)")
bad("linearize", lambda: LINEAR(), TypeError, "linearize(same) takes 1 argument (f64[3],), got 0")
bad("linearize", lambda: LINEAR({"a": X}), ValueError, "linearize(same)", "at [0], expected a leaf")
bad(
    "linearize",
    lambda: vk.linearize(lambda n, x: n * x, INTS, 2.0)[1](np.ones(3), 0.0),
    ValueError,
    "linearize(<lambda>)",
    "other than zero at [0]",
    "Cast the argument",
)
bad("LinearMap", lambda: PULLBACK + SHORTER, ValueError, "A + B", "f64[3] and f64[2]")
bad("LinearMap", lambda: SHORTER.T @ SHORTER.T, ValueError, "A @ B: B gives f64[2]", "A takes")
bad("LinearMap", lambda: PULLBACK @ 3, TypeError, "LinearMap")
bad("LinearMap", lambda: PULLBACK @ X, TypeError, " @ x: a linear map is applied", "L(x)", HERE)
bad("LinearMap", lambda: PULLBACK * X, TypeError, "LinearMap")
bad("LinearMap", lambda: PULLBACK * 1j, TypeError, "real linear map times a complex number")
bad("LinearMap", lambda: PULLBACK.only(5), ValueError, "only: argnums 5 is out of range for 1")
bad("LinearMap", lambda: PULLBACK.only("a"), TypeError, "only: argnums must be an int", "'a'")
bad("LinearMap", lambda: PULLBACK.only((0, 0)), ValueError, "names an argument twice")
bad("LinearMap", lambda: PULLBACK.batched(), TypeError, ".batched takes 1 argument", "got 0")
bad("LinearMap", lambda: PULLBACK.batched(A, A), TypeError, ".batched takes 1 argument", "got 2")
bad("LinearMap", lambda: PULLBACK.batched(X), ValueError, ".batched: got shape (3,), but (n, 3)")
bad("LinearMap", lambda: PULLBACK.batched({"a": A}), ValueError, ".batched", "expected a leaf")
bad(
    "LinearMap",
    lambda: PAIRED.batched({"a": A, "b": X}),
    ValueError,
    ".batched: got shape (3,) at ['b'], but (n,) is wanted, n the same for all leaves",
)
bad("LinearMap", lambda: PULLBACK.batched(A.astype(int)), ValueError, "got i64[2,3]", "Cast it")
bad("LinearMap", lambda: PULLBACK.batched(A.view(np.matrix)), UnsupportedError, "matrix", HERE)
bad("LinearMap", lambda: PULLBACK.dense(chunk_size=0), ValueError, ".dense: chunk_size", "got 0")
bad("LinearMap", lambda: FREED(X), ClosedTraceError, "was freed")
bad("LinearMap", lambda: FREED.program, ClosedTraceError, "was freed")
bad(
    "LinearMap",
    lambda: vk.vjp(np.real, X * 1j)[1].as_scipy(),
    TypeError,
    "vjp(real).as_scipy: the map is linear over the real numbers only",
    "separate real arrays",
)


@pytest.mark.parametrize(
    "call",
    each(
        lambda: PULLBACK(X[:2]),
        lambda: PULLBACK(X, X),
        lambda: PULLBACK([X]),
        lambda: PULLBACK.batched(X),
        lambda: PULLBACK.batched(A.astype(int)),
        lambda: LINEAR(X[:2]),
        lambda: vk.jvp(energy, (X,), (X[:2],)),
        lambda: vk.hvp(energy, (X,), (X[:2],)),
        lambda: vk.jvp(energy, (INTS,), (X,)),
    ),
)
def test_a_vector_that_does_not_fit_names_the_line(call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert HERE in "".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


# ---------------------------------------------------------------------------- programs of functions

bad(
    "linear_transpose",
    lambda: vk.linear_transpose(energy, X),
    NotLinearError,
    "linear_transpose(energy)",
    "multiply of f64[3], f64[3]",
    HERE,
    "Use vjp or linearize",
)
bad(
    "linear_transpose",
    lambda: vk.linear_transpose(lambda x: x + 1, X),
    NotLinearError,
    "add of f64[3], i64[]*",
    HERE,
)
bad("linear_transpose", lambda: vk.linear_transpose(same, INTS), TypeError, "no transpose")
bad("linear_transpose", lambda: vk.linear_transpose(same, "a"), TypeError, "[0] is a str", HERE)
bad(
    "linear_transpose",
    lambda: vk.linear_transpose(same, X)(X[:2]),
    ValueError,
    "linear_transpose(same): got f64[2], but f64[3] is wanted",
)
STAGERS: dict[str, Callable[..., Any]] = {
    "make_ir": lambda f, x: vk.make_ir(f)(x),
    "eval_shape": vk.eval_shape,
    "closure_convert": vk.closure_convert,
}
for name, stage in STAGERS.items():
    bad(name, lambda s=stage: s(energy, "a"), TypeError, f"{name}(energy)", "[0] is a str", HERE)
    bad(name, lambda s=stage: s(energy, TEXT), UnsupportedError, f"{name}(energy)", "<U1", HERE)
    bad(name, lambda s=stage: s(energy, MASKED), UnsupportedError, "argument [0]", "Masked", HERE)
bad(
    "make_ir",
    lambda: vk.make_ir(energy)(X)(X[:2]),
    ValueError,
    "input 0 is f64[2], but the program was made for f64[3]",
    "make_ir",
)
bad("make_ir", lambda: vk.make_ir(energy)(X)(INTS), ValueError, "input 0 is i64[3]", "make_ir")
bad("make_ir", lambda: vk.make_ir(energy)(X)(), TypeError, "0 values for 1 inputs (f64[3])")
bad("make_ir", lambda: vk.make_ir(energy)(X)("a"), TypeError, "str is not an array", HERE)
bad(
    "eval_shape",
    lambda: vk.eval_shape(lambda x: x @ x, vk.ShapeDtypeStruct((2, 3), float)),
    ValueError,
    "matmul",
    "(2, 3) and (2, 3)",
)
bad(
    "closure_convert",
    lambda: vk.closure_convert(energy, X)[0](),
    ValueError,
    "closure_convert(energy)",
    "at the root",
)
bad("closure_convert", lambda: vk.closure_convert(energy, X)[0](X[:2]), ValueError, "f64[2]")
bad(
    "closure_convert",
    lambda: vk.closure_convert(energy, X)[0]({"a": X}),
    ValueError,
    "closure_convert(energy)",
    "at [0], expected a leaf, got a dict",
)
for shape in (("a",), (2.5,), (-3,), None, "ab"):
    bad(
        "ShapeDtypeStruct",
        lambda s=shape: vk.ShapeDtypeStruct(s, float),
        TypeError,
        "shape must be a tuple of sizes",
        repr(shape),
        HERE,
    )
bad("ShapeDtypeStruct", lambda: vk.ShapeDtypeStruct((3,), "foo"), TypeError, "'foo'")
bad("parse_ir", lambda: vk.parse_ir(3), TypeError, "text of a program", "int")
bad("parse_ir", lambda: vk.parse_ir(""), ValueError, "line 1, column 1: expected 'program('", "end")
bad(
    "parse_ir",
    lambda: vk.parse_ir("program(a: f64[]) {\n  return b\n}"),
    ValueError,
    "line 2, column 10",
    "'b'",
)
bad(
    "parse_ir",
    lambda: vk.parse_ir("program(a: f64[]) {\n  b: f64[] = frob a\n  return b\n}"),
    ValueError,
    "line 2",
    "no primitive is called 'frob'",
)

# --------------------------------------------------------------------------------------------- vmap

bad(
    "vmap", lambda: vk.vmap(same)(), ValueError, "vmap(same): nothing is mapped", HERE, "axis_size="
)
bad("vmap", lambda: vk.vmap(same)(None), ValueError, "vmap(same): nothing is mapped", HERE)
bad("vmap", lambda: vk.vmap(same, in_axes=None)(A), ValueError, "nothing is mapped", "in_axes=None")
bad(
    "vmap",
    lambda: vk.vmap(same)(3.0),
    ValueError,
    "vmap(same): argument [0] has shape ()",
    "no axis 0",
    HERE,
    "in_axes=None",
)
bad("vmap", lambda: vk.vmap(same)({"w": A, "b": 1.0}), ValueError, "argument [0]['b'] has shape ()")
bad("vmap", lambda: vk.vmap(same, in_axes=1)(X), ValueError, "[0] has shape (3,)", "axis 1", HERE)
bad("vmap", lambda: vk.vmap(same, in_axes="a"), TypeError, "must be an int", "'a'", HERE)
bad("vmap", lambda: vk.vmap(same, in_axes=("a",))(A), TypeError, "must hold ints", "'a'", HERE)
bad("vmap", lambda: vk.vmap(same, in_axes=(0, 0))(A), ValueError, "2 entries for 1", HERE)
bad("vmap", lambda: vk.vmap(same, in_axes=({"a": 0},))(A), ValueError, "at [0], expected a dict")
bad(
    "vmap",
    lambda: vk.vmap(lambda x, y: x)(A, X),
    ValueError,
    "must have the same length",
    HERE,
    "argument [0] has 2 (shape (2, 3))",
    "argument [1] has 3",
)
bad("vmap", lambda: vk.vmap(same, axis_size=4)(A), ValueError, "[0] has 2", "axis_size is 4")
bad("vmap", lambda: vk.vmap(same, axis_size="a")(A), TypeError, "must be an int", "'a'", HERE)
bad(
    "vmap", lambda: vk.vmap(same, out_axes=None)(A), ValueError, "is None", "differs", HERE, "pmean"
)
bad(
    "vmap",
    lambda: vk.vmap(same, out_axes=3)(A),
    ValueError,
    "vmap(same): out_axes puts the batch at axis 3",
    "(2, 3)",
    HERE,
)
bad("vmap", lambda: vk.vmap(same, out_axes="a")(A), TypeError, "must hold ints", "'a'", HERE)
bad("vmap", lambda: vk.vmap(same, out_axes=(0, 0))(A), ValueError, "out_axes", "expected a tuple")
bad("vmap", lambda: vk.vmap(same)(TEXT), UnsupportedError, "vmap(same): argument [0]", "<U1", HERE)
bad("vmap", lambda: vk.vmap(same)(MASKED), UnsupportedError, "argument [0]", "MaskedArray", HERE)
bad("vmap", lambda: vk.vmap(same)({"m": MATRIX}), UnsupportedError, "[0]['m']", "matrix", HERE)

bad("ravel_pytree", lambda: ravel_pytree({"a": [X, "b"]}), TypeError,
    "ravel_pytree: ['a'][1] is a str", HERE, "Leave it out")  # fmt: skip
bad("ravel_pytree", lambda: ravel_pytree({"a": X})[1](A), ValueError,
    "unravel: got an array of shape (2, 3), but (3,) is wanted", HERE)  # fmt: skip

# ------------------------------------------------------------------ custom rules and checkpointing


def ruled(fwd: Any, bwd: Any) -> Any:
    f = vk.custom_vjp(undefined)
    f.defvjp(fwd, bwd)
    return vk.grad(lambda x: np.sum(f(x)))


def pushed(rule: Any) -> Any:
    f = vk.custom_jvp(undefined)
    f.defjvp(rule)
    return vk.grad(lambda x: np.sum(f(x)))


for custom in (vk.custom_vjp, vk.custom_jvp):
    name = custom.__name__
    bad(
        name,
        lambda c=custom: c(undefined)(X),
        NotDifferentiableError,
        f"{name}(undefined): no rule is defined yet; call undefined.def",
    )
    bad(name, lambda c=custom: c(undefined)(X, X), TypeError, f"{name}(undefined): too many", HERE)
    bad(
        name, lambda c=custom: c(undefined)(), TypeError, f"{name}(undefined): missing", "'x'", HERE
    )
    bad(name, lambda c=custom: c(undefined)(y=X), TypeError, f"{name}(undefined)", "'x'", HERE)
    bad(
        name,
        lambda c=custom: c(undefined, nondiff_argnums="a"),
        TypeError,
        f"{name}(undefined): nondiff_argnums must be ints",
        "'a'",
        HERE,
    )
    bad(
        name,
        lambda c=custom: c(undefined, nondiff_argnums=(5,))(X),
        TypeError,
        f"{name}(undefined): nondiff_argnums=(5,) is out of range",
        "1 argument",
        HERE,
    )
bad(
    "custom_vjp",
    lambda: vk.custom_vjp(undefined).defvjp(same, 4),
    TypeError,
    "custom_vjp(undefined).defvjp",
    "must be a function, got int",
    HERE,
)
bad(
    "custom_jvp",
    lambda: vk.custom_jvp(undefined).defjvp(3),
    TypeError,
    "custom_jvp(undefined).defjvp",
    "must be a function, got int",
    HERE,
)
bad(
    "custom_jvp", lambda: vk.custom_jvp(undefined).defjvps(3), TypeError, "defjvps", "got int", HERE
)
bad(
    "custom_vjp",
    lambda: ruled(same, same)(X),
    TypeError,
    "custom_vjp(undefined): fwd must return a pair",
    "got ndarray",
    HERE,
)
bad(
    "custom_vjp",
    lambda: ruled(lambda x: (x, None), lambda r, ct: ct)(X),
    TypeError,
    "custom_vjp(undefined): bwd must return a tuple of 1",
    "got ndarray",
    HERE,
)
bad(
    "custom_vjp",
    lambda: ruled(lambda x: (x, None), lambda r, ct: (ct[:2],))(X),
    ValueError,
    "custom_vjp(undefined): bwd returned a cotangent at [0] of shape (2,)",
    "(3,) is wanted",
    HERE,
)
bad(
    "custom_vjp",
    lambda: ruled(lambda x: ("a", None), same)(X),
    TypeError,
    "custom_vjp(undefined): the function returned a str",
    HERE,
)
bad(
    "custom_jvp",
    lambda: pushed(lambda p, t: t[0])(X),
    TypeError,
    "custom_jvp(undefined): the rule must return a pair",
    "a traced f64[3]",
    HERE,
)
bad(
    "custom_jvp",
    lambda: pushed(lambda p, t: (p[0], (t[0], t[0])))(X),
    TypeError,
    "custom_jvp(undefined)",
    "tangent of tree",
)
bad(
    "checkpoint",
    lambda: vk.checkpoint(energy)(),
    TypeError,
    "energy() missing 1 required positional argument",
    "'x'",
)
bad(
    "checkpoint",
    lambda: vk.checkpoint(energy)(X, X),
    TypeError,
    "energy() takes 1 positional argument but 2 were given",
)
bad(
    "checkpoint",
    lambda: vk.checkpoint(energy, static_argnums=("x",)),
    TypeError,
    "checkpoint(energy): static_argnums must be",
    "'x'",
    HERE,
)
bad(
    "checkpoint",
    lambda: vk.checkpoint(energy, concrete=True),
    TypeError,
    "checkpoint: concrete=True is not supported",
    HERE,
    "Leave it out",
)
bad(
    "checkpoint_name",
    lambda: vk.checkpoint_name(X, 3),
    TypeError,
    "checkpoint_name: name must be a string, got int",
    HERE,
)
bad(
    "checkpoint_policies",
    lambda: vk.checkpoint_policies.save_only_these_names(3),
    TypeError,
    "checkpoint_policies.save_only_these_names: names are strings",
    HERE,
)
bad(
    "custom_rule",
    lambda: vk.custom_rule(energy, vjp=same),
    TypeError,
    "custom_rule(energy): vjp must be a pair (fwd, bwd)",
    HERE,
)

# ------------------------------------------------------------------------------------------ testing

bad("check_grads", lambda: tu.check_grads(energy, X, 1), TypeError, "tuple of arguments", "ndarray")
bad("check_grads", lambda: tu.check_grads(energy, (X,), 0), ValueError, "order counts from 1", "0")
bad("check_grads", lambda: tu.check_grads(energy, (X,), "a"), ValueError, "order counts", "'a'")
bad(
    "check_grads",
    lambda: tu.check_grads(energy, (X,), 1, modes="foo"),
    ValueError,
    "'fwd'",
    "'foo'",
)
bad("check_grads", lambda: tu.check_grads(energy, ("a",), 1), TypeError, "args[0] is a str", HERE)
bad("check_grads", lambda: tu.check_grads(energy, (INTS,), 1), TypeError, "no floating-point")
bad("check_rule", lambda: tu.check_rule("sin"), TypeError, "check_rule: a primitive", "got str")

# ------------------------------------------------------------------------------------ vjpkit.numpy

bad("zeros", lambda: vnp.zeros("a"), TypeError, "'str'")
bad("zeros", lambda: vnp.zeros((2, -1)), ValueError, "negative dimensions")
bad(
    "array",
    lambda: vk.grad(lambda x: vnp.array([[x[0], 1.0], [x[1]]]))(X),
    ValueError,
    "inhomogeneous shape",
)
bad("array", lambda: vk.grad(lambda x: vnp.array([x[0], "a"]))(X), TypeError, "dtype <U")
bad("array", lambda: vk.grad(lambda x: vnp.array([x[0], None]))(X), TypeError, "dtype object")
bad(
    "array",
    lambda: vk.grad(lambda x: np.sum(x + np.array([1.0, 2.0, 3.0], dtype=object)))(X),
    TypeError,
    "arrays of dtype object",
    HERE,
    "x.copy()",
)
bad("numpy", lambda: vnp.einsumm, AttributeError, "vjpkit.numpy has no 'einsumm'")
bad(
    "tree",
    lambda: vk.tree.map(lambda a, b: a, {"a": 1}, {"b": 1}),
    ValueError,
    "tree 2: at the root, missing keys ['a']",
    "{'a': *}",
)


bad(
    "jet", lambda: vk.jet(np.sin, 1.0, [1.0]), TypeError,
    "jet(sin)", "must be tuples or lists", "got float and list", HERE, "Write jet(sin, (x,), ([x1",
)  # fmt: skip
bad(
    "jet", lambda: vk.jet(np.sin, (X,), ([X[:2]],)), ValueError, "jet(sin)", "f64[2]", "f64[3]",
    "Pass an array",
)  # fmt: skip
bad(
    "laplacian", lambda: vk.laplacian(energy)(INTS), TypeError,
    "laplacian(energy): argument 0 is i64[3]", HERE, "x.astype(float)",
)  # fmt: skip
bad("laplacian", lambda: vk.laplacian(3), TypeError, "laplacian", "a function, got int", HERE)
bad(
    "directional_derivatives", lambda: vk.directional_derivatives(np.sin, X, X, 2), TypeError,
    "directional_derivatives(sin)", "got ndarray and ndarray", HERE, "(sin, (x,), (t,), 2)",
)  # fmt: skip
bad(
    "directional_derivatives", lambda: vk.directional_derivatives(np.sin, (X,), (X,), -1),
    ValueError, "directional_derivatives(sin)", "order must be a positive int, got -1", HERE,
)  # fmt: skip
bad("debug_nans", lambda: vk.debug_nans(3), TypeError, "debug_nans", "function, got int", HERE)
bad(
    "named_scope", lambda: vk.named_scope(3), TypeError,
    "named_scope: name must be a string that is not empty, got 3", HERE,
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{c.name}-{i}" for i, c in enumerate(CASES)])
def test_bad_calls(case: Bad) -> None:
    with pytest.raises(case.error) as caught:
        case.call()
    assert_says(caught.value, case.words)


# -------------------------------------------------------------- inside a differentiated function


def write_item(x: Any) -> Any:
    a = np.zeros(3)
    a[0] = x[0]
    return np.sum(a)


def write_slice(x: Any) -> Any:
    a = np.zeros(3)
    a[:] = x
    return np.sum(a)


def write_row(x: Any) -> Any:
    a = np.zeros((2, 3))
    a[0] = x
    return np.sum(a)


def write_mask(x: Any) -> Any:
    a = np.zeros(3)
    a[a == 0] = x
    return np.sum(a)


def write_field(x: Any) -> Any:
    a = np.zeros(3, [("q", float)])
    a["q"] = x
    return np.sum(a["q"])


def write_added_item(x: Any) -> Any:
    a = np.zeros(3)
    a[0] += x[0]
    return np.sum(a)


def write_filled(x: Any) -> Any:
    a = np.zeros(3)
    a.fill(x[0])
    return np.sum(a)


def write_put(x: Any) -> Any:
    a = np.zeros(3)
    a.put([0], x[0])
    return np.sum(a)


PLAIN_WRITES = [
    write_item,
    write_slice,
    write_row,
    write_mask,
    write_field,
    write_added_item,
    write_filled,
    write_put,
]


def add_in_place(x: Any) -> Any:
    a = np.zeros(3)
    a += x
    return np.sum(a)


def add_out(x: Any) -> Any:
    a = np.zeros(3)
    np.add(x, x, out=a)
    return np.sum(a)


def sum_out(x: Any) -> Any:
    a = np.zeros(())
    np.sum(x, out=a)
    return a


def add_at(x: Any) -> Any:
    a = np.zeros(3)
    np.add.at(a, [0], x[0])
    return np.sum(a)


def copy_to(x: Any) -> Any:
    a = np.zeros(3)
    np.copyto(a, x)
    return np.sum(a)


def put_mask(x: Any) -> Any:
    a = np.zeros(3)
    np.putmask(a, a == 0, x)
    return np.sum(a)


NUMPY_WRITES = {
    add_in_place: "np.add",
    add_out: "np.add",
    add_at: "np.add.at",
    copy_to: "np.copyto",
    put_mask: "np.putmask",
}
CONVERSIONS = [
    lambda x: float(x[0]),
    lambda x: math.sin(x[0]),
    lambda x: math.fsum(x),
    lambda x: complex(x[0]),
    lambda x: np.arange(x[0]),
    lambda x: np.sum(np.fromiter(x, float)),
    lambda x: [1.0][math.isclose(x[0], 1.0)],
]
ARRAYS = [
    lambda x: np.sum(np.array([x[0], x[1]], dtype=float)),
    lambda x: np.sum(np.asarray(x, float)),
    lambda x: np.float64(x[0]),
    lambda x: np.random.default_rng(0).normal(x)[0],
]
MODES: dict[str, Callable[[Any], Any]] = {
    "grad": lambda f: vk.grad(f)(X),
    "vjp": lambda f: vk.vjp(f, X),
    "jvp": lambda f: vk.jvp(f, (X,), (X,)),
    "vmap": lambda f: vk.vmap(f)(A),
    "make_ir": lambda f: vk.make_ir(f)(X),
    "grad of grad": lambda f: vk.grad(lambda y: np.sum(vk.grad(f)(y)))(X),
    "checkpoint": lambda f: vk.grad(vk.checkpoint(f))(X),
}
DIFFERENTIATED = ["grad", "vjp", "jvp", "grad of grad"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("f", PLAIN_WRITES)
def test_traced_values_are_not_written_into_plain_arrays(mode: str, f: Any) -> None:
    with pytest.raises(TracerConversionError) as caught:
        MODES[mode](f)
    told = str(caught.value)
    assert HERE in told
    assert re.search("zeros_like|np.where|np.stack", told)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("f", NUMPY_WRITES)
def test_numpy_does_not_write_traced_values_into_plain_arrays(mode: str, f: Any) -> None:
    with pytest.raises(TracerConversionError) as caught:
        MODES[mode](f)
    words = (NUMPY_WRITES[f], "plain ndarray", "derivative", HERE, "np.zeros_like(x)", "vnp.zeros")
    assert_says(caught.value, words)


@pytest.mark.parametrize("mode", DIFFERENTIATED)
@pytest.mark.parametrize("number", range(len(CONVERSIONS)))
def test_python_numbers_would_lose_the_derivative(mode: str, number: int) -> None:
    with pytest.raises(TracerConversionError) as caught:
        MODES[mode](CONVERSIONS[number])
    words = ("() of a traced value", "lose its derivative", HERE, "NumPy's functions")
    assert_says(caught.value, (*words, "stop_gradient"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", range(len(ARRAYS)))
def test_plain_arrays_would_lose_the_derivative(mode: str, number: int) -> None:
    with pytest.raises(TracerConversionError) as caught:
        MODES[mode](ARRAYS[number])
    assert_says(caught.value, ("cannot become a plain array of float64", HERE, "np.stack"))


@pytest.mark.parametrize("mode", ["make_ir", "vmap"])
@pytest.mark.parametrize(
    "ask",
    each(
        lambda x: bool(x[0] > 0),
        lambda x: float(x[0]),
        lambda x: int(x[0]),
        lambda x: complex(x[0]),
        lambda x: math.sin(x[0]),
        lambda x: x[0] if x[0] > 0 else 0.0,
        lambda x: round(x[0]),
        lambda x: f"{x[0]:.2f}",
        lambda x: max(x),
        lambda x: range(np.argmax(x)),
        lambda x: [1, 2, 3][np.argmax(x)],
        lambda x: operator.index(np.argmax(x)),
    ),
)
def test_abstract_values_are_not_known(mode: str, ask: Any) -> None:
    what = {"make_ir": "is not known while the function is being staged", "vmap": "stands for 2"}
    with pytest.raises(TracerConversionError) as caught:
        MODES[mode](ask)
    assert_says(
        caught.value, (what[mode], "Python control flow", HERE, "Use np.where", "vk.debug.print")
    )


@pytest.mark.parametrize("mode", ["make_ir", "vmap"])
@pytest.mark.parametrize("ask", [lambda x: x[x > 0], np.nonzero, np.unique])
def test_shapes_that_depend_on_abstract_values(mode: str, ask: Any) -> None:
    with pytest.raises(TracerConversionError) as caught:
        MODES[mode](lambda x: ask(x))
    assert_says(caught.value, (HERE, "Use np.where"))


UNSUPPORTED: dict[str, Callable[[Any], Any]] = {
    "np.packbits": np.packbits,
    "np.save": lambda x: np.save(io.BytesIO(), x),
    "np.isnat": np.isnat,
    "np.arctan2.reduce": np.arctan2.reduce,
    "np.sin: the keyword order=": lambda x: np.sin(x, order="F"),
    "MaskedArray operands": lambda x: x * MASKED,
    "matrix operands": lambda x: x * MATRIX[:1, :1],
    "view(int64)": lambda x: x.view(np.int64),
    "byteswap": lambda x: x.byteswap(),
}


if hasattr(np.strings.upper, "_implementation"):  # dispatched, as by newer NumPys
    UNSUPPORTED["np.strings.upper"] = np.strings.upper


@pytest.mark.parametrize("mode", [*DIFFERENTIATED, "vmap", "make_ir"])
@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_is_not_supported_is_named(mode: str, what: str) -> None:
    f = UNSUPPORTED[what]
    with pytest.raises(UnsupportedError) as caught:
        MODES[mode](lambda x: np.sum(f(x)))
    assert_says(caught.value, (what, HERE))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "f",
    each(
        lambda x: np.sin(x, foo=1),
        lambda x: np.sum(x, foo=1),
        lambda x: np.sin(),
        lambda x: np.add(x),
        lambda x: np.add(x, "a"),
        lambda x: x + None,
        lambda x: x @ "a",
        lambda x: x + np.array(["a", "b", "c"]),
        lambda x: x + np.timedelta64(1, "D"),
        lambda x: np.dot(x, {"a": 1}),
        lambda x: hash(x),
        lambda x: len(x[0]),
        lambda x: list(x[0]),
        lambda x: x.foo,
        lambda x: np.sum(x, axis="a"),
        lambda x: x << 1,
        lambda x: np.gcd(x, 2),
        lambda x: x + np.array([1, None, 2]),
    ),
)
def test_what_numpy_refuses_is_refused(mode: str, f: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        f(X)
    with pytest.raises((TypeError, AttributeError)):
        MODES[mode](f)


def test_traced_values_are_not_pickled() -> None:
    import pickle

    with pytest.raises(TypeError, match=r"cannot be pickled   \(test_bad_input.py:"):
        vk.grad(pickle.dumps)(X)


# --------------------------------------------------------------------------------- escaped tracers

ENDED: dict[str, Callable[[Any], Any]] = {
    "grad": lambda f: vk.grad(lambda x: np.sum(f(x)))(X),
    "vjp": lambda f: vk.vjp(f, X),
    "jvp": lambda f: vk.jvp(f, (X,), (X,)),
    "jacfwd": lambda f: vk.jacfwd(f)(X),
    "vmap": lambda f: vk.vmap(f)(np.stack([X, X])),
    "make_ir": lambda f: vk.make_ir(f)(X),
    "linear_transpose": lambda f: vk.linear_transpose(f, X),
}


def escaped(mode: str) -> Any:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(2.0 * x)
        return kept[0]

    ENDED[mode](f)
    return kept[0]


@pytest.mark.parametrize("mode", ENDED)
@pytest.mark.parametrize(
    "use",
    each(
        np.sin,
        lambda t: t * 2,
        lambda t: t[0],
        lambda t: t + X,
        np.sum,
        lambda t: np.stack([t, t]),
        lambda t: t.__setitem__(0, 1.0),
        lambda t: vk.grad(lambda x: np.sum(x * t))(X),
        lambda t: vk.grad(lambda x: t[0])(X),
        lambda t: vk.vjp(lambda x: t, X),
        lambda t: vk.jvp(lambda x: t, (X,), (X,)),
        lambda t: vk.vmap(lambda x: t)(A),
        lambda t: vk.make_ir(lambda x: t)(X),
        lambda t: vk.vjp(same, t),
        lambda t: vk.grad(energy)(t),
        lambda t: vk.grad(lambda x: (np.sum(x), t), has_aux=True)(X),
    ),
)
def test_a_traced_value_does_not_outlive_its_transformation(mode: str, use: Any) -> None:
    leaked = escaped(mode)
    with pytest.raises(ClosedTraceError) as caught:
        use(leaked)
    assert_says(caught.value, (HERE, "Return values from the function"))
    repr(leaked)  # looking at it does no harm


def test_an_inner_traced_value_does_not_reach_the_outer_function() -> None:
    def outer(x: Any) -> Any:
        kept: list[Any] = []

        def inner(y: Any) -> Any:
            kept.append(y * x)
            return np.sum(kept[0])

        vk.grad(inner)(x)
        return np.sum(kept[0])

    with pytest.raises(ClosedTraceError, match=r"after grad\(inner\) had finished") as caught:
        vk.grad(outer)(X)
    assert HERE in str(caught.value)


# -------------------------------------------------------------------------- exceptions, clean state


class Stop(Exception):
    """The user's own."""


RAISING: dict[str, Callable[[Any], Any]] = {
    **ENDED,
    "grad": lambda f: vk.grad(f)(X),
    "jacrev": lambda f: vk.jacrev(f)(X),
    "hessian": lambda f: vk.hessian(f)(X),
    "hvp": lambda f: vk.hvp(f, (X,), (X,)),
    "eval_shape": lambda f: vk.eval_shape(f, X),
    "closure_convert": lambda f: vk.closure_convert(f, X),
    "checkpoint": lambda f: vk.grad(vk.checkpoint(f))(X),
}


@pytest.mark.parametrize("mode", RAISING)
def test_an_exception_leaves_nothing_behind(mode: str) -> None:
    kept: list[Any] = []

    def raises(x: Any) -> Any:
        y = vnp.zeros(3)
        y[:] = x * x
        kept.append(x * x)
        raise Stop("midway")

    def outer(x: Any) -> Any:
        with pytest.raises(Stop, match="midway"):
            RAISING[mode](lambda y: raises(x * y))
        return energy(x)

    with pytest.raises(Stop, match="midway"):
        RAISING[mode](raises)
    assert type(vnp.zeros(2)) is np.ndarray  # no transform is running any more
    np.testing.assert_array_equal(vk.grad(energy)(X), 2 * X)
    np.testing.assert_array_equal(vk.grad(outer)(X), 2 * X)
    np.testing.assert_array_equal(vk.hessian(energy)(X), 2 * np.eye(3))
    if mode != "checkpoint":  # which ran it on plain arrays
        with pytest.raises(ClosedTraceError):
            np.sin(kept[0])


def test_an_error_of_the_users_passes_unchanged() -> None:
    def f(x: Any) -> Any:
        raise ValueError("the user's own") from KeyError("cause")

    for mode in RAISING:
        with pytest.raises(ValueError, match="the user's own") as caught:
            RAISING[mode](f)
        assert isinstance(caught.value.__cause__, KeyError)


# ---------------------------------------------------------- arrays that change after they were read


def reusing(n: int, op: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """A function that fills one buffer again and again."""

    def f(w: Any) -> Any:
        buffer = np.ones(n)
        total = 0.0
        for k in range(3):
            buffer[:] = k + 1.0
            total = total + np.mean(op(w, buffer))
        return total

    return f


@vk.custom_vjp
def product(w: Any, x: Any) -> Any:
    return w * x


product.defvjp(lambda w, x: (w * x, (w, x)), lambda r, ct: (np.sum(ct * r[1]), ct * r[0]))
READS: dict[str, Callable[[Any, Any], Any]] = {
    "product": lambda w, b: w * b,
    "checkpoint": vk.checkpoint(lambda w, b: w * b),
    "custom_vjp": product,
    "vmap": lambda w, b: vk.vmap(lambda x: w * x)(b),
    "where": lambda w, b: np.where(b > 1, w * b, w),
    "jvp": lambda w, b: vk.jvp(lambda v: v * v * b, (w,), (0.5,))[1],
}
LARGE = 100_000


@pytest.mark.parametrize("name", READS)
def test_a_buffer_that_is_used_again_is_right_or_an_error(name: str) -> None:
    f = reusing(5, READS[name])
    wanted = (f(3.0) - f(1.0)) / 2.0  # all of them are linear in w
    assert vk.grad(f)(2.0) == pytest.approx(wanted, rel=1e-14)
    assert vk.make_ir(f)(2.0)(2.0)[0] == f(2.0)
    with pytest.raises(ClosedTraceError, match="changed in place") as caught:
        vk.grad(reusing(LARGE, READS[name]))(2.0)
    assert HERE in str(caught.value)
    assert f"({LARGE},)" in str(caught.value)
    with pytest.raises(ClosedTraceError, match="changed in place") as caught:
        vk.make_ir(reusing(LARGE, READS[name]))(2.0)(2.0)
    assert HERE in str(caught.value)
    assert vk.jit(f)(2.0) == f(2.0)
    with pytest.raises(ClosedTraceError, match="changed in place"):
        vk.jit(reusing(LARGE, READS[name]))(2.0)


@pytest.mark.parametrize("n", [5, LARGE])
@pytest.mark.parametrize(
    "made",
    [
        lambda f, x: vk.vjp(f, x)[1],
        lambda f, x: vk.vjp(f, x)[1].compile(),
        lambda f, x: vk.linear_transpose(f, x),
        lambda f, x: vk.vjp(f, x)[1] @ vk.linearize(f, x)[1],
    ],
    ids=["vjp", "compile", "linear_transpose", "product"],
)
def test_a_captured_array_that_changes_is_noticed(n: int, made: Any) -> None:
    captured, x = np.full(n, 3.0), np.ones(n)
    linear = made(lambda x: x * captured, x)
    before = linear(x)
    captured[n // 2] = 7.0
    if n == 5:
        np.testing.assert_array_equal(linear(x), before)
    else:
        with pytest.raises(ClosedTraceError, match="changed in place") as caught:
            linear(x)
        assert HERE in str(caught.value)


@pytest.mark.parametrize("n", [5, LARGE])
def test_a_checkpoint_notices_that_its_function_changed(n: int) -> None:
    captured, x = np.full(n, 3.0), np.linspace(0.5, 1.0, n)
    y, pullback = vk.vjp(vk.checkpoint(lambda x: np.sin(x) * captured), x)
    np.testing.assert_allclose(pullback(np.ones(n))[0], 3.0 * np.cos(x), rtol=1e-14)
    captured[n // 2] = 7.0
    with pytest.raises(ClosedTraceError) as caught:
        pullback(np.ones(n))
    words = ("checkpoint(<lambda>)", "gave other values", "closes over", "as arguments")
    assert_says(caught.value, words)


def test_a_checkpoint_of_random_numbers_is_an_error() -> None:
    rng = np.random.default_rng(0)
    _, pullback = vk.vjp(vk.checkpoint(lambda x: x * rng.normal(size=3)), X)
    with pytest.raises(ClosedTraceError, match="draws random numbers"):
        pullback(X)


# ---------------------------------------------------------------------------------- nothing is left


def test_every_public_function_is_tried() -> None:
    tables = (NOT_A_FUNCTION, SCALAR_LIKE, OUTPUTS, MODES)
    tried = {c.name for c in CASES}.union(*tables)
    public = {name for name in vk.__all__ if callable(getattr(vk, name))}
    # What takes no argument that could be wrong, and a dtype.
    assert public - tried <= {"float0", "retain_memory"}


def test_an_index_that_is_none_is_not_taken_for_a_traced_one():
    x = np.ones((2, 2))
    with pytest.raises(IndexError, match=r"^only integers") as caught:
        vk.grad(lambda params: np.sum(params["w"]))(x)
    assert [note.partition(": ")[0] for note in caught.value.__notes__] == [
        "The line that asked for it"
    ]
    with pytest.raises(IndexError, match=r"^only integers") as caught:
        vk.vmap(lambda i: x[i])(np.array([0, 1]))
    assert "vnp.take(a, i, axis=0)" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("make", [np.zeros, np.ones, np.empty])
def test_a_shape_that_a_value_decides_is_told_what_to_do(make: Callable[[Any], Any]) -> None:
    for call in (lambda: vk.jit(make)(3), lambda: vk.vmap(make)(INTS)):
        with pytest.raises(TypeError) as caught:
            call()
        said = [str(caught.value), *getattr(caught.value, "__notes__", ())]
        assert "static" in "".join(said)
