"""The IR: values, programs as values, well-formedness and linearity."""

import copy
import itertools
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.programs import ENCLOSE, F3, SCALARS, P, call, chain, equation, random_programs
from vjpkit.core.aval import Aval, dtype_name, dtype_named
from vjpkit.core.errors import NotLinearError, Source
from vjpkit.core.ir import (
    Equation,
    Literal,
    Program,
    Var,
    check,
    linear_variables,
    live_equations,
    nonlinear_equation,
    params_key,
    scalar_text,
    subprograms,
    used,
)
from vjpkit.core.primitive import PRIMITIVES
from vjpkit.core.staging import stage
from vjpkit.ops.index import Index

F32 = Aval((), np.float32)
SCALAR = Aval((), np.float64)


@pytest.fixture(autouse=True, scope="module")
def nested():
    """`ENCLOSE`, for as long as these tests run."""
    PRIMITIVES["enclose"] = ENCLOSE
    yield
    del PRIMITIVES["enclose"]


def staged(f: Callable[..., Any], *avals: Aval, linear: int = 0) -> Program:
    return stage(lambda *xs: (f(*xs),), avals or (F3,), linear).program


# ------------------------------------------------------------------------------ literals and dtypes


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (2, "2"),
        (2.0, "2.0"),
        (True, "True"),
        (1 + 2j, "(1+2j)"),
        (float("-inf"), "-inf"),
        (float("nan"), "nan"),
        (-0.0, "-0.0"),
        (10**30, "1" + 30 * "0"),
        (np.float64(0.1), "f64(0.1)"),
        (np.float32(0.1), "f32(0.1)"),
        (np.float16(6e4), "f16(60000.0)"),
        (np.float32(1e-30), "f32(1e-30)"),
        (np.float64(-0.0), "f64(-0.0)"),
        (np.float32("nan"), "f32(nan)"),
        (np.complex64(1 - 2j), "c64(1-2j)"),
        (np.complex128(complex(-0.0, np.inf)), "c128(-0+infj)"),
        (np.True_, "bool(True)"),
        (np.int8(-3), "i8(-3)"),
        (np.longlong(3), "i64(3)"),
        (np.uint64(2**64 - 1), "u64(18446744073709551615)"),
    ],
)
def test_scalar_text(x: Any, text: str):
    assert scalar_text(x) == repr(Literal(x)) == text


def test_scalar_text_ignores_print_options():
    x = np.float32(0.1) + np.float32(1e-7)
    wanted = scalar_text(x)
    with np.printoptions(precision=2, legacy="1.13"):
        assert scalar_text(x) == wanted
        assert scalar_text(np.complex64(x)) == f"c64({wanted[4:-1]}+0j)"


def test_every_half_precision_number_has_its_own_text():
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    numbers = numbers[~np.isnan(numbers)]
    texts = [scalar_text(x) for x in numbers]
    assert len(set(texts)) == len(numbers)
    assert [np.float16(text[4:-1]) for text in texts] == list(numbers)


DISTINCT = [
    0.0, -0.0, 0, False, 0j, complex(0.0, -0.0), 1, 1.0, True, float("nan"), np.float32(0),
    np.float64(0), np.float32(-0.0), np.int64(0), np.int32(0), np.bool_(False), np.complex64(0),
    np.float64("nan"),
]  # fmt: skip


def test_literals_and_parameters_that_differ():
    for x, y in itertools.combinations(DISTINCT, 2):
        assert Literal(x) != Literal(y)
        assert params_key({"p": x}) != params_key({"p": y})
        assert params_key({"p": (1, (x,))}) != params_key({"p": (1, (y,))})


@pytest.mark.parametrize("x", DISTINCT, ids=scalar_text)
def test_literals_and_parameters_that_agree(x: Any):
    again = pickle.loads(pickle.dumps(x))
    assert Literal(x) == Literal(again)
    assert hash(Literal(x)) == hash(Literal(again))
    assert params_key({"p": (x,)}) == params_key({"p": (again,)})
    assert hash(params_key({"p": (x,)})) == hash(params_key({"p": (again,)}))


def test_literal_is_no_other_thing():
    assert Literal(2.0) != 2.0
    assert Literal(2.0).aval == Aval((), float, weak=True)
    assert Literal(np.float32(2)).aval == F32


def test_parameters_are_compared_without_order():
    assert params_key({"a": 1, "b": 2}) == params_key({"b": 2, "a": 1})
    assert params_key({}) == ()


@pytest.mark.parametrize("dtype", [*"?bhilqBHILQefdgFDG", ">f8", ">i4"])
def test_dtype_names(dtype: str):
    assert dtype_named(dtype_name(np.dtype(dtype))) == np.dtype(dtype)


@pytest.mark.parametrize("name", ["float64", "f63", "d", "", "<", ">f3", "object", "None"])
def test_other_words_name_no_dtype(name: str):
    with pytest.raises(ValueError, match=f"no dtype is called '{name}'"):
        dtype_named(name)


# ---------------------------------------------------------------------------------------- equations


def test_repr_of_variables_and_equations():
    x = Var(F3)
    eqn = equation(P.multiply, (x, Literal(2.0)), {})
    assert repr(x) == "Var(f64[3])"
    assert repr(eqn) == "<multiply f64[3] 2.0 -> f64[3]>"


def test_source_of_an_equation():
    x = Var(F3)
    known = Source("model.py", 12, "loss")
    code = test_source_of_an_equation.__code__
    assert Equation(P.sin, (x,), {}, (x,)).source is None
    assert Equation(P.sin, (x,), {}, (x,), known).source is known
    assert Equation(P.sin, (x,), {}, (x,), (None, -1)).source is None
    found = Equation(P.sin, (x,), {}, (x,), (code, -1)).source
    assert found == Source(__file__, code.co_firstlineno, "test_source_of_an_equation")


# ----------------------------------------------------------------------------------------- equality


def small(
    primitive: Any = P.multiply,
    aval: Aval = F3,
    literal: Any = 2.0,
    linear: int = 1,
    axes: Any = (0,),
    outputs: int = 1,
    order: int = 1,
    source: Any = None,
) -> Program:
    """x -> sum(x * 2), and variations of it."""
    x = Var(aval)
    inputs = (x, Literal(literal))[::order]
    first = Equation(primitive, inputs, {}, (Var(aval),), source)
    params = {"axes": axes, "keepdims": False}
    second = equation(P.sum, first.outputs, params)
    return Program([x], [first, second], second.outputs * outputs, linear)


def test_programs_compare_by_structure():
    p, q = small(), small(source=Source("model.py", 12, "loss"))
    assert p == q
    assert p.key() == q.key()
    assert hash(p) == hash(q)
    assert len({p, q, small(linear=0)}) == 2
    assert p != "a program"
    assert (p == 3) is False


@pytest.mark.parametrize(
    "change",
    [
        {"primitive": P.divide},
        {"aval": Aval((4,), np.float64)},
        {"aval": Aval((3,), np.float32)},
        {"aval": Aval((3,), np.float64, weak=True)},
        {"literal": 2},
        {"literal": np.float64(2)},
        {"linear": 0},
        {"axes": None},
        {"outputs": 2},
        {"order": -1},
    ],
    ids=str,
)
def test_programs_that_differ(change: dict[str, Any]):
    assert small(**change) != small()


def test_which_variable_is_read_matters():
    x, y = Var(F3), Var(F3)
    p = Program([x, y], [], [x])
    assert p == Program([y, x], [], [y])
    assert p != Program([x, y], [], [y])


def test_signs_of_zero_and_nan_in_parameters():
    def filled(value: float) -> Program:
        eqn = equation(P.fill, (), {"shape": (), "value": value, "dtype": F3.dtype})
        return Program([], [eqn], eqn.outputs)

    assert filled(0.0) != filled(-0.0)
    assert filled(1.0) != filled(True)
    assert filled(float("nan")) == filled(float("nan"))


def test_equal_programs_share_their_key():
    """Doubling 60 times would take 2**60 comparisons if nested programs compared more than once."""

    def doubled(depth: int) -> Program:
        x = Var(F3)
        p = Program([x], [], [x])
        for _ in range(depth):
            x = Var(F3)
            first = call(p, x)
            second = call(p, *first.outputs)
            p = Program([x], [first, second], second.outputs)
        return p

    p, q = doubled(60), doubled(60)
    assert hash(p) == hash(q)
    assert p == q
    assert p.key() is q.key()
    assert p != doubled(59)
    check(p)


def test_cached_is_made_once():
    p = chain(1)
    made = itertools.count()
    assert p.cached("what", lambda: f"value {next(made)}") == "value 0"
    assert p.cached("what", lambda: f"value {next(made)}") == "value 0"
    assert next(made) == 1


# ----------------------------------------------------------------------------------------- pickling


@given(random_programs())
def test_pickle_and_deepcopy(p: Program):
    for q in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p), copy.copy(p)):
        assert q == p
        assert str(q) == str(p)
        check(q)


def test_pickle_keeps_the_identity_of_variables():
    p = chain(2)
    for q in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p)):
        first, second = q.equations
        assert first.inputs[0] is q.inputs[0]
        assert second.inputs[0] is first.outputs[0]
        assert q.outputs[0] is second.outputs[0]
        assert first.primitive is second.primitive is P.sin


def test_pickle_decodes_the_users_line():
    p = staged(np.sin)
    q = pickle.loads(pickle.dumps(p))
    assert q.equations[0].position == p.equations[0].source
    assert q.equations[0].source.file == __file__


def test_long_programs_do_not_recurse():
    p = chain(10 * sys.getrecursionlimit())
    q = pickle.loads(pickle.dumps(p))
    assert q == copy.deepcopy(p) == p
    assert hash(q) == hash(p)
    check(q)


def test_unknown_primitive_in_a_pickle(monkeypatch: pytest.MonkeyPatch):
    data = pickle.dumps(chain(1))
    monkeypatch.delitem(PRIMITIVES, "sin")
    with pytest.raises(ValueError, match="no primitive is called 'sin'"):
        pickle.loads(data)


# ------------------------------------------------------------------------- evaluation, reachability


def test_eval():
    p = staged(lambda x, y: x * 2.0 + y, F3, SCALAR)
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(p.eval(x, 1.0)[0], x * 2 + 1)
    with pytest.raises(TypeError) as error:
        p.eval(x)
    assert str(error.value) == "Program.eval: got 1 values for 2 inputs (f64[3], f64[])"


def test_live_equations():
    x, unused = Var(F3), Var(F3)
    dead = equation(P.sin, (unused,), {})
    first = equation(P.sin, (x,), {})
    second = equation(P.add, (*first.outputs, Literal(1.0)), {})
    kept, live = live_equations([dead, first, second], [*second.outputs, Literal(0)])
    assert kept == [first, second]
    assert live == {x, *first.outputs, *second.outputs}
    assert list(used([x, Literal(1), unused])) == [x, unused]


def test_subprograms():
    inner = chain(1)
    x = Var(F3)
    twice = [call(inner, x), call(inner, x)]
    assert list(subprograms(Program([x], twice, []))) == [inner, inner]


def test_pretty_is_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    p = staged(np.sin)
    line = p.equations[0].source
    assert f"= sin a  # {line}\n" in p.pretty()
    assert p.pretty() == p.pretty(color=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert p.pretty() == p.pretty(color=True)
    assert "\33[" in p.pretty()


# -------------------------------------------------------------------------------------------- check


@given(random_programs())
def test_well_formed_programs_pass(p: Program):
    check(p)


def malformed() -> dict[str, tuple[Program, type[Exception], str]]:
    x, y, z = Var(F3), Var(F3), Var(F3)
    i = Var(Aval((), np.int64))
    sin = equation(P.sin, (x,), {})
    where = Source("model.py", 12, "loss")
    square = Equation(P.multiply, (x, x), {}, (y,), where)
    wrong_shape = Equation(P.sin, (x,), {}, (Var(SCALAR),))
    two_outputs = Equation(P.sin, (x,), {}, (y, z))
    return {
        "an input twice": (Program([x, x], [], []), AssertionError, "Var(f64[3]) is defined twice"),
        "an output twice": (Program([x], [sin, sin], []), AssertionError, "is defined twice"),
        "an input again": (
            Program([x], [Equation(P.sin, (x,), {}, (x,))], []),
            AssertionError,
            "is defined twice",
        ),
        "an unknown operand": (
            Program([y], [sin], []),
            AssertionError,
            "Var(f64[3]) is used before its definition in <sin f64[3] -> f64[3]>",
        ),
        "an unknown output": (
            Program([x], [], [y]),
            AssertionError,
            "Var(f64[3]) is used before its definition in the outputs",
        ),
        "another aval": (
            Program([x], [wrong_shape], []),
            AssertionError,
            "<sin f64[3] -> f64[]>: inferred (f64[3],), stated (f64[],)",
        ),
        "too many outputs": (
            Program([x], [two_outputs], []),
            AssertionError,
            "inferred (f64[3],), stated (f64[3], f64[3])",
        ),
        "operands that do not fit": (
            Program([x], [Equation(P.matmul, (x, Literal(2.0)), {}, (y,))], []),
            ValueError,
            "matmul",
        ),
        "parameters without hash": (
            Program([x], [Equation(P.getitem, (x,), {"index": [0]}, (i,))], []),
            TypeError,
            "unhashable",
        ),
        "too many linear inputs": (
            Program([x], [], [], linear=2),
            AssertionError,
            "2 of 1 inputs cannot be linear",
        ),
        "negative linear inputs": (
            Program([x], [], [], linear=-1),
            AssertionError,
            "-1 of 1 inputs cannot be linear",
        ),
        "a nonlinear equation": (
            Program([x], [square], [y], linear=1),
            NotLinearError,
            "<multiply f64[3] f64[3] -> f64[3]> is not linear in the linear inputs   (model.py:12)",
        ),
        "an affine output": (
            Program([y, x], [], [x, y], linear=1),
            NotLinearError,
            "the output Var(f64[3]) does not depend on the linear inputs, and is not 0",
        ),
        "a constant output": (
            Program([x], [], [x, Literal(1.0)], linear=1),
            NotLinearError,
            "the output 1.0 does not depend on the linear inputs, and is not 0",
        ),
        "a malformed program inside": (
            Program([x], [call(Program([x], [], [z]), x)], []),
            AssertionError,
            "Var(f64[3]) is used before its definition in the outputs",
        ),
    }


@pytest.mark.parametrize("kind", malformed())
def test_malformed_programs_are_caught(kind: str):
    program, error_type, message = malformed()[kind]
    with pytest.raises(error_type) as error:
        check(program)
    assert message in str(error.value)


# ---------------------------------------------------------------------------------------- linearity

MASK = np.array([True, False, True])

LINEAR = {
    "itself": lambda t: t,
    "twice": lambda t: 2.0 * t,
    "sum with itself": lambda t: t + t,
    "adding a literal zero": lambda t: t + 0,
    "subtracting from a literal zero": lambda t: 0.0 - t,
    "division by a constant": lambda t: t / 3.0,
    "a residual factor": lambda t: np.arange(3.0) * t,
    "a reduction": lambda t: np.sum(t) * 2.0,
    "an element": lambda t: t[1],
    "where with a literal zero": lambda t: np.where(MASK, t, 0),
    "where with both": lambda t: np.where(MASK, t, -t),
    "literal zero": lambda t: 0.0,
    "a product with zero": lambda t: t * 0.0,
}
NONLINEAR = {
    "square": (lambda t: t * t, "multiply"),
    "sine": (lambda t: np.sin(t), "sin"),
    "division by it": (lambda t: 1.0 / t, "divide"),
    "an offset": (lambda t: t + 1.0, "add"),
    "an offset by an array": (lambda t: np.arange(3.0) + t, "add"),
    "where with a constant": (lambda t: np.where(MASK, t, 1.0), "where"),
    "a comparison": (lambda t: t > 0, "greater"),
    "after linear ones": (lambda t: np.tanh(2.0 * t[0] - t[1]), "tanh"),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_functions(name: str):
    p = staged(LINEAR[name], linear=1)
    assert nonlinear_equation(p) is None
    check(p)


@pytest.mark.parametrize("name", NONLINEAR)
def test_nonlinear_functions_name_the_first_equation(name: str):
    f, primitive = NONLINEAR[name]
    p = staged(f, linear=1)
    offender = nonlinear_equation(p)
    assert isinstance(offender, Equation)
    assert offender.primitive.name == primitive
    wanted = f"<{primitive} .* is not linear in the linear inputs .*test_ir"
    with pytest.raises(NotLinearError, match=wanted):
        check(p)


def test_bilinear_in_each_operand_and_not_in_both():
    matrix = Aval((3, 3), np.float64)
    f = lambda x, y: x @ y + 2.0 * (x @ y)
    assert nonlinear_equation(staged(f, matrix, matrix, linear=0)) is None
    assert nonlinear_equation(staged(f, matrix, matrix, linear=1)) is None
    both = staged(f, matrix, matrix, linear=2)
    assert nonlinear_equation(both) is both.equations[0]


def test_affine_outputs_are_returned():
    p = staged(lambda x, t: x, F3, F3, linear=1)
    assert nonlinear_equation(p) is p.outputs[0]
    q = staged(lambda t: 1.0, F3, linear=1)
    assert nonlinear_equation(q) == Literal(1.0)


def test_zeros_made_by_equations_are_linear():
    t = Var(F3)
    zero = equation(P.fill, (), {"shape": (1,), "value": 0, "dtype": F3.dtype})
    wide = equation(P.broadcast_to, zero.outputs, {"shape": (3,)})
    joined = equation(P.concatenate, (t, *wide.outputs), {"axis": 0})
    p = Program([t], [zero, wide, joined], [*joined.outputs, *wide.outputs], linear=1)
    check(p)
    assert linear_variables(p) == {t, *joined.outputs}
    one = equation(P.fill, (), {"shape": (3,), "value": 1, "dtype": F3.dtype})
    affine = equation(P.concatenate, (t, *one.outputs), {"axis": 0})
    q = Program([t], [one, affine], affine.outputs, linear=1)
    assert nonlinear_equation(q) is affine


def test_false_is_a_mask_and_not_a_zero():
    t = Var(F3)
    eqn = equation(P.where, (Literal(False), t, Literal(0.0)), {})
    check(Program([t], [eqn], eqn.outputs, linear=1))
    assert linear_variables(Program([t], [], [], linear=0)) == set()


@given(st.data())
def test_index_arrays_are_not_linear(data: st.DataObject):
    """An index that depends on the linear input is refused, wherever it stands."""
    x, i = Var(F3), Var(Aval((2,), np.int64))
    eqn = equation(P.getitem, (x, i), {"index": Index((Index.ARRAY,))})
    inputs = data.draw(st.permutations([x, i]))
    p = Program(inputs, [eqn], eqn.outputs, linear=1)
    assert (nonlinear_equation(p) is None) == (inputs[-1] is x)


@given(SCALARS)
def test_only_zero_is_a_linear_constant(x: Any):
    t = Var(Aval((), np.float64))
    p = Program([t], [], [Literal(x)], linear=1)
    is_number = not isinstance(x, bool | np.bool_)
    assert (nonlinear_equation(p) is None) == (is_number and bool(x == 0))
