"""Staging: what a function writes down, what it captures, and what it may not do meanwhile."""

import inspect
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from tests.core.programs import F3, P, equation
from vjpkit.core.aval import Aval
from vjpkit.core.errors import ClosedTraceError, TracerConversionError, UnsupportedError
from vjpkit.core.ir import Literal, Program, Var, check
from vjpkit.core.staging import Builder, Staged, stage, transpose_into, unbound

SCALAR = Aval((), np.float64)
INTEGER = Aval((), np.int64)


def staged(f: Callable[..., Any], *avals: Aval) -> Program:
    return stage(lambda *xs: (f(*xs),), avals or (F3,)).program


def keep(kept: list[Any], x: Any) -> Any:
    """``x``, kept for later."""
    kept.append(x)
    return x


def here() -> int:
    """The line of the caller."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


# -------------------------------------------------------------------------------------- the program


def test_a_program_is_what_the_function_computes():
    f = lambda x, y: (np.sin(x) * 2.0 + y, y)
    closed = stage(f, [F3, SCALAR])
    check(closed.program)
    assert [e.primitive.name for e in closed.program.equations] == ["sin", "multiply", "add"]
    assert closed.program.in_avals == (F3, SCALAR)
    assert closed.program.out_avals == (F3, SCALAR)
    x, y = np.array([0.1, 0.2, 0.3]), 2.0
    for got, wanted in zip(closed(x, y), f(x, y), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert str(closed) == repr(closed) == str(closed.program)
    assert closed._repr_html_() == closed.program._repr_html_()


def test_equations_without_effect_are_left_out():
    def f(x):
        np.exp(x)
        unused = np.arange(3.0) * x
        del unused
        return (np.sin(x),)

    closed = stage(f, [F3])
    assert [e.primitive.name for e in closed.program.equations] == ["sin"]
    assert closed.captured == ()


def test_scalars_are_written_as_literals():
    x = np.arange(3.0)
    closed = stage(lambda t: (t * 2, t + np.float32(3), x[1], 1j, True), [F3])
    check(closed.program)
    assert closed.captured == ()
    assert [e.inputs[1] for e in closed.program.equations] == [Literal(2), Literal(np.float32(3))]
    assert closed.program.outputs[2:] == (Literal(np.float64(1)), Literal(1j), Literal(True))
    assert [type(y) for y in closed(x)[2:]] == [np.float64, complex, bool]


def test_promotion_is_numpys():
    single = Aval((3,), np.float32)
    weak = Aval((), float, weak=True)
    p = stage(lambda x, s: (x * 2.0, x * s, x * np.float64(2), x * 1j, s * 2), [single, weak])
    names = [repr(aval) for aval in p.program.out_avals]
    assert names == ["f32[3]", "f32[3]", "f64[3]", "c64[3]", "f64[]*"]


def test_tracers_show_their_type():
    shown: list[str] = []
    staged(lambda x: keep(shown, f"{x!r} {x.shape} {x.dtype} {len(x)}") and x)
    assert shown == ["Traced<f64[3]> (3,) float64 3"]


def test_linear_inputs_are_counted():
    p = stage(lambda x, t: (x * t,), [F3, F3], linear=1).program
    assert p.linear == 1
    check(p)


# ---------------------------------------------------------------------------------- captured values


def test_captured_values_are_leading_inputs():
    c = np.array([1.0, 2.0, 3.0])
    closed = stage(lambda x: (x * c,), [F3])
    check(closed.program)
    (product,) = closed.program.equations
    assert product.inputs == (closed.program.inputs[1], closed.program.inputs[0])
    np.testing.assert_array_equal(closed.consts[0], c)
    assert not np.shares_memory(closed.consts[0], c)  # what is written to c later does not matter
    np.testing.assert_array_equal(closed(np.ones(3))[0], c)


def test_one_object_is_captured_once():
    c = np.arange(3.0)
    copy, view = c.copy(), c[:]
    closed = stage(lambda x: (x * c, c + x, x - copy, x / view, c), [F3])
    assert len(closed.consts) == 3
    product, total, *_ = closed.program.equations
    assert product.inputs[1] is total.inputs[0] is closed.program.inputs[0]
    assert closed.program.outputs[-1] is closed.program.inputs[0]


def test_temporaries_are_not_confused():
    """An array that dies during the function must not lend its identity to the next one."""
    closed = stage(lambda x: (sum([x * np.full(3, float(i)) for i in range(50)]),), [F3])
    assert len(closed.consts) == 50
    np.testing.assert_array_equal(closed(np.ones(3))[0], np.full(3, 49 * 50 / 2))


def test_captured_values_know_name_and_line():
    c, d = np.arange(3.0), np.ones((3, 2))

    def f(x):
        y = x * c
        return (y @ d,)

    closed = stage(f, [F3])
    start = f.__code__.co_firstlineno
    assert [v.name for v in closed.captured] == ["multiply.1", "matmul.1"]
    assert [v.source.line for v in closed.captured if v.source] == [start + 1, start + 2]
    again = pickle.loads(pickle.dumps(closed))
    assert again.program == closed.program
    assert [str(v.source) for v in again.captured] == [str(v.source) for v in closed.captured]
    np.testing.assert_array_equal(again(np.ones(3))[0], closed(np.ones(3))[0])


def test_captured_arrays_are_strong_and_of_their_type():
    c = np.ones(3, np.float32)
    p = stage(lambda x: (x + c,), [Aval((), float, weak=True)]).program
    assert [repr(a) for a in p.in_avals] == ["f32[3]", "f64[]*"]
    assert [repr(a) for a in p.out_avals] == ["f32[3]"]


def test_outer_tracers_are_captured_and_differentiated():
    def f(x):
        closed = stage(lambda y: (np.sum(x * y * y),), [F3])
        assert closed.consts[0].value is x.value
        return closed(np.arange(3.0))[0]

    np.testing.assert_array_equal(vk.grad(f)(np.ones(3)), np.arange(3.0) ** 2)


def test_staging_inside_staging():
    def outer(x):
        inner = stage(lambda y: (np.sin(y) * x,), [F3])
        assert isinstance(inner.consts[0], Staged)
        return inner(x * 2.0)[0]

    assert str(staged(outer)) == str(staged(lambda x: np.sin(x * 2.0) * x))


# ----------------------------------------------------------------------------------- the users line


def test_equations_know_the_users_line():
    lines: list[int] = []

    def helper(x):
        lines.append(here() + 1)
        return np.tanh(x)

    def f(x):
        lines.append(here() + 1)
        y = x[0] * 2.0
        return helper(y)

    p = staged(f)
    sources = [e.source for e in p.equations]
    assert [s.line for s in sources if s] == [lines[0], lines[0], lines[1]]
    assert [s.function for s in sources if s] == ["f", "f", "helper"]
    assert {s.file for s in sources if s} == {__file__}


def test_linearizations_know_the_line_that_they_linearize():
    def f(x):
        y = np.sin(x)
        return y * y

    _, linear = vk.linearize(f, np.ones(3))
    start = f.__code__.co_firstlineno
    for program in (linear.program, linear.T.program):
        check(program)
        lines = [e.source.line for e in program.equations if e.source]
        assert len(lines) == len(program.equations)
        assert set(lines) == {start + 1, start + 2}


def test_a_gradient_taken_while_staging_names_the_lines_it_comes_from():
    line = here() + 3

    def loss(x):
        return np.sum(np.sin(x))

    p = staged(lambda x: vk.grad(loss)(x))
    lines = {e.primitive.name: e.source.line for e in p.equations if e.source}
    assert lines["cos"] == line


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("f", "aval", "what", "origin"),
    [
        (lambda x: x if x[0] > 0 else -x, F3, "bool[]", "greater (test_staging.py:{line})"),
        (lambda x: x if np.sum(x) else -x, F3, "f64[]", "sum (test_staging.py:{line})"),
        (lambda x: x if x else -x, SCALAR, "f64[]", "argument 0 of the staged function"),
        (lambda x: int(x), SCALAR, "f64[]", "argument 0 of the staged function"),
        (lambda x: float(x[1]), F3, "f64[]", "getitem (test_staging.py:{line})"),
        (lambda x: complex(x), SCALAR, "f64[]", "argument 0 of the staged function"),
        (lambda x: [1.0, 2.0][x], INTEGER, "i64[]", "argument 0 of the staged function"),
        (lambda x: range(x), INTEGER, "i64[]", "argument 0 of the staged function"),
    ],
)
def test_python_cannot_ask_for_the_value(f: Any, aval: Aval, what: str, origin: str):
    line = f.__code__.co_firstlineno
    with pytest.raises(TracerConversionError) as error:
        staged(f, aval)
    first, second = str(error.value).split("\n")
    assert first == (
        f"the value of {what} is not known while the function is being staged, so it cannot decide "
        f"Python control flow or become a Python number.   (test_staging.py:{line})"
    )
    assert second.startswith(f"The value comes from {origin.format(line=line)}. Use np.where")
    assert "np.where" in second


def test_values_from_outside_the_function_are_named_so():
    def outer(x):
        stage(lambda y: (y if x[0] > 0 else -y,), [F3])
        return x

    with pytest.raises(TracerConversionError, match=r"The value comes from greater \(test_staging"):
        staged(outer)
    builder, other = Builder(), Builder()
    elsewhere = other.atom(other.argument(F3))
    assert isinstance(elsewhere, Var)
    assert builder.origin(elsewhere) == "outside"


def test_other_misuse():
    with pytest.raises(TypeError, match="only integer scalar arrays can be converted"):
        staged(lambda x: [1.0, 2.0][x[0]])
    with pytest.raises(
        TracerConversionError, match="cannot become a plain array of float64"
    ) as bad:
        staged(lambda x: np.asarray(x, float))
    assert f"(test_staging.py:{here() - 1})" in str(bad.value)
    with pytest.raises(TypeError, match=r"NoneType is not an array or a number.*test_staging"):
        staged(lambda x: x + None)
    with pytest.raises(UnsupportedError, match=r"np.unpackbits is not supported .*test_staging"):
        staged(lambda x: np.unpackbits(x))
    with pytest.raises(ValueError, match=r"could not be broadcast|shape mismatch"):
        staged(lambda x: x + np.ones(4))


def test_a_value_dies_with_its_staging():
    kept: list[Any] = []
    staged(lambda x: keep(kept, x * 2.0))
    with pytest.raises(ClosedTraceError) as error:
        kept[0] + 1.0
    assert str(error.value) == (
        "an abstract value was used after its function had been staged"
        f"   (test_staging.py:{here() - 3})\n"
        "Return values from the function instead of storing them."
    )


def test_a_value_that_was_captured_after_its_end():
    kept: list[Any] = []
    staged(lambda x: keep(kept, x))
    closed = stage(lambda y: (y + kept[0],), [F3])
    with pytest.raises(ClosedTraceError, match="used after its function had been staged"):
        closed(np.ones(3))


@pytest.mark.parametrize(
    "inner",
    [
        lambda f: staged(f),
        lambda f: vk.grad(lambda y: np.sum(f(y)))(np.ones(3)),
    ],
    ids=["staging", "grad"],
)
def test_a_value_of_an_inner_transformation_cannot_be_returned(inner: Callable[[Any], Any]):
    def outer(x):
        kept: list[Any] = []
        inner(lambda y: keep(kept, x * y))
        return kept[0]

    with pytest.raises(ClosedTraceError, match="of a transformation that has finished"):
        staged(outer)


def test_an_exception_leaves_nothing_behind():
    def f(x):
        np.sin(x)
        raise KeyError("the user's own")

    before = staged(np.sin)
    with pytest.raises(KeyError, match="the user's own"):
        staged(f)
    assert staged(np.sin) == before
    assert vk.grad(lambda x: np.sum(np.sin(x)))(np.zeros(3)).tolist() == [1.0, 1.0, 1.0]


def test_threads_stage_independently():
    barrier = threading.Barrier(4)
    found: dict[int, str] = {}

    def run(i: int) -> None:
        def f(x):
            for _ in range(20):
                barrier.wait(10)
                x = np.sin(x) * float(i)
            return x

        found[i] = str(staged(f))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = str(staged(lambda x: [x := np.sin(x) * 1.0 for _ in range(20)][-1]))
    assert {i: text.replace(f" {i}.0", " 1.0") for i, text in found.items()} == dict.fromkeys(
        range(4), wanted
    )


# -------------------------------------------------------------------------------------- transposing


def transposed(push: Callable[..., Any], domain: list[Aval], codomain: list[Aval]) -> Any:
    """The program of the transpose, and what was left of the dummy tangents."""
    builder = Builder()
    cts = [builder.argument(aval) for aval in codomain]
    pulled = transpose_into(builder, push, domain, cts)
    closed = builder.finish([c for c in pulled if c is not None], linear=len(cts))
    return closed, unbound(closed.program)


def test_the_transpose_pairs_with_the_map():
    matrix = np.arange(6.0).reshape(2, 3)

    def push(t, s):
        return matrix @ t + 2.0 * s, t[1:] - s

    pair = Aval((2,), np.float64)
    closed, leftover = transposed(push, [F3, pair], [pair, pair])
    check(closed.program)
    assert leftover is None
    t, s, u, v = np.array([1.0, -2.0, 0.5]), np.array([3.0, 1.0]), np.array([2.0, 5.0]), np.ones(2)
    a, b = push(t, s)
    t_bar, s_bar = closed(u, v)
    assert u @ a + v @ b == pytest.approx(t @ t_bar + s @ s_bar, rel=1e-14)


def test_a_tangent_that_is_left_over_is_found():
    closed, leftover = transposed(lambda t: (t * t,), [F3], [F3])
    assert leftover is closed.program.equations[0]
    assert unbound(staged(np.sin)) is None


def test_unbound_variables_are_found_where_they_are_read():
    x, y = Var(F3), Var(F3)
    good, bad = equation(P.sin, (x,), {}), equation(P.sin, (y,), {})
    assert unbound(Program([x], [good, bad], [])) is bad
