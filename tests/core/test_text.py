"""The text of programs: what is printed, what is read, and every error in between."""

import html
import itertools
import re
import sys
import textwrap
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.core.programs import (
    ENCLOSE,
    F3,
    SAMPLES,
    SCALARS,
    P,
    call,
    chain,
    equation,
    random_programs,
    sample_equation,
)
from vjpkit import parsing
from vjpkit.core import text as module
from vjpkit.core.aval import Aval
from vjpkit.core.errors import Source
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var, check, scalar_text
from vjpkit.core.primitive import PRIMITIVES, Primitive
from vjpkit.core.staging import stage
from vjpkit.core.text import FORMAT_VERSION, register_param, to_html, to_text
from vjpkit.ops.index import Index
from vjpkit.parsing import parse

SCALAR = Aval((), np.float64)


@pytest.fixture(autouse=True, scope="module")
def nested():
    """`ENCLOSE`, for as long as these tests run."""
    PRIMITIVES["enclose"] = ENCLOSE
    yield
    del PRIMITIVES["enclose"]


class note(Primitive):
    """Its operand, and any parameters."""

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        return avals[0]

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return any(mask)


NOTE = note()


@pytest.fixture(autouse=True, scope="module")
def noted():
    """`NOTE`, for as long as these tests run."""
    PRIMITIVES["note"] = NOTE
    yield
    del PRIMITIVES["note"]


def noting(**params: Any) -> Program:
    """A program of one equation with these parameters."""
    x = Var(SCALAR)
    eqn = equation(NOTE, (x,), params)
    return Program([x], [eqn], eqn.outputs)


def returning(*values: Any) -> Program:
    return Program([], [], map(Literal, values))


def program_text(text: str) -> str:
    return textwrap.dedent(text).strip("\n")


def assert_round_trip(p: Program) -> None:
    """The text reads back as the same program, with and without the user's lines."""
    text = str(p)
    q = parse(text)
    assert q == p
    assert str(q) == text
    noted = to_text(p, source=True)
    assert parse(noted) == p
    assert to_text(parse(noted), source=True) == noted


# ---------------------------------------------------------------------------------- what is printed


def test_a_program_as_printed():
    def f(x, y, t):
        h = np.tanh(x * 2.0)
        return np.sum(h[None, 1:], axis=(0,)) + np.float32(0.5), np.where(h > 0, h, y), 1j

    avals = Aval((3,), np.float32), Aval((), float, weak=True), Aval((2, 3), np.complex64)
    assert str(stage(f, avals).program) == program_text("""
        program(a: f32[3], b: f64[]*, c: c64[2,3]) {
          d: f32[3] = multiply a 2.0
          e: f32[3] = tanh d
          f: f32[1,2] = getitem[index=[None, 1:]] e
          g: f32[2] = sum[axes=(0,), keepdims=False] f
          h: f32[2] = add g f32(0.5)
          i: bool[3] = greater e 0
          j: f32[3] = where i e b
          return h, j, 1j
        }
    """)


def test_linear_inputs_nested_programs_and_several_outputs():
    x, t = Var(F3), Var(F3)
    inner = chain(1)
    both = equation(ENCLOSE, (t, t), {"programs": (inner, Program([t], [], [t, Literal(0.0)]))})
    p = Program([x, t], [both], [*both.outputs, x], linear=1)
    assert str(p) == program_text("""
        program(a: f64[3]; b: f64[3]) {
          c: f64[3], d: f64[3], e: f64[]* = enclose[programs=(program(f: f64[3]) {
            g: f64[3] = sin f
            return g
          }, program(h: f64[3]) {
            return h, 0.0
          })] b b
          return c, d, e, a
        }
    """)
    assert_round_trip(p)


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        (Program([], [], []), "program() {\n  return\n}"),
        (Program([Var(F3)], [], [], linear=1), "program(; a: f64[3]) {\n  return\n}"),
        (returning(True, 2), "program() {\n  return True, 2\n}"),
        (
            Program([], [Equation(ENCLOSE, (), {"programs": ()}, ())], []),
            "program() {\n  () = enclose[programs=()]\n  return\n}",
        ),
    ],
)
def test_small_programs(program: Program, wanted: str):
    assert str(program) == wanted
    assert_round_trip(program)


def test_the_example_in_the_documentation_reads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PRIMITIVES, "call", ENCLOSE)
    example = program_text(module.__doc__.split("::\n")[1].split("Grammar")[0])
    p = parse(example)
    assert p.linear == 1
    assert [str(e.source) for e in p.equations] == ["model.py:12", "model.py:14"]
    (inner,) = p.equations[1].params.values()
    assert str(inner.equations[0].source) == "loss.py:7"
    assert to_text(p, source=True).replace("enclose", "call") == example


def test_long_lists_are_broken_between_items():
    inputs = [Var(F3) for _ in range(40)]
    outputs: list[Atom] = [*inputs, Literal(-2.5)] * 2
    p = Program(inputs, [], outputs, linear=20)
    lines = str(p).split("\n")
    assert all(len(line) <= 100 for line in lines)
    assert all(line.startswith("    ") for line in lines[1:4])
    assert all(line.endswith((",", ";")) for line in lines[:3])
    assert len(lines) < 15
    assert_round_trip(p)


def test_names_avoid_the_words_of_the_format():
    count = 50_000
    inputs = [Var(SCALAR) for _ in range(count)]
    p = Program(inputs, [], inputs)
    names = re.findall(r"[a-z]+(?=: f64)", str(p))
    assert len(set(names)) == count
    assert not {"inf", "nan", "infj", "nanj", "bool"} & set(names)
    assert names[:3] == ["a", "b", "c"]
    assert names[25:28] == ["z", "aa", "ab"]
    assert parse(str(p)) == p


def test_printing_shows_what_is_wrong():
    """A malformed program prints; its text does not read."""
    p = Program([Var(F3)], [], [Var(F3)])
    assert str(p) == "program(a: f64[3]) {\n  return b\n}"
    with pytest.raises(ValueError, match="'b' is neither a variable"):
        parse(str(p))


# ----------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("i", range(len(SAMPLES)), ids=lambda i: f"{SAMPLES[i][0].name}-{i}")
def test_every_sample_of_every_primitive(i: int):
    eqn = sample_equation(*SAMPLES[i])
    inputs = [v for v in eqn.inputs if isinstance(v, Var)]
    p = Program(inputs, [eqn], eqn.outputs)
    assert_round_trip(p)
    check(parse(str(p)))


@given(random_programs(), st.data())
def test_random_programs(p: Program, data: st.DataObject):
    linear = data.draw(st.integers(0, len(p.inputs)))
    p = Program(p.inputs, p.equations, p.outputs, linear)
    assert_round_trip(p)


@given(random_programs(depth=0), random_programs(depth=0))
def test_equal_texts_are_equal_programs(p: Program, q: Program):
    assert (str(p) == str(q)) == (p == q)


def test_numbers_of_different_dtypes_are_not_compared():
    assert Literal(65520.0) != Literal(np.float16(0))  # which NumPy would cast, with a warning


@given(st.lists(SCALARS, max_size=4))
@example([np.longdouble(1) / 3, np.clongdouble(1 - 1j) / 7, complex(-0.0, np.nan)])
@example([10**400, -1e-320, np.float32(1e-45), np.float16(6e-8), np.complex64(1e-45j)])
def test_scalars(values: list[Any]):
    assert_round_trip(returning(*values))
    assert_round_trip(noting(value=tuple(values)))
    for x, literal in zip(values, parse(str(returning(*values))).outputs, strict=True):
        assert isinstance(literal, Literal)
        assert type(literal.value) is type(x)
        assert literal.value == x or x != x


def test_single_precision_is_not_rounded_twice():
    """Decimals that float64 rounds to the middle between two float32 would round the wrong way."""
    bits = np.random.default_rng(0).integers(0, 2**31 - 2**23, 20_000).astype(np.uint32)
    for x in bits.view(np.float32):
        assert np.float32(scalar_text(x)[4:-1]) == x


PARAMS = st.recursive(
    SCALARS
    | st.none()
    | st.text()
    | st.sampled_from([np.dtype(c) for c in [*"?bhilqBHILQefdgFDG", ">f8", ">c16"]])
    | st.lists(
        st.one_of(
            st.integers(-9, 9),
            st.sampled_from([None, Ellipsis, Index.ARRAY]),
            st.builds(slice, *3 * [st.none() | st.integers(-9, 9).filter(bool)]),
        )
    ).map(lambda entries: Index(tuple(entries))),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["axis", "k", "value", "program", "dtype"]), PARAMS))
@example({"value": ("#", "'", '"', "'\"\n\\", "a: f64[3]", "program() {", "\u2028é∇")})
@example({"value": ((), (1,), ((),), ((2,), ()))})
@example({"value": (")",)})
@example({"value": (np.dtype(">f8"), np.dtype(np.longdouble), None, True, "None", "f32", "2.0")})
def test_parameters(params: dict[str, Any]):
    assert_round_trip(noting(**params))


def test_programs_staged_from_functions():
    def mlp(x, w, v):
        return (np.sum(np.tanh(x @ w) @ v / 2.0, axis=0),)

    matrices = Aval((2, 3), np.float64), Aval((3, 4), np.float64), Aval((4,), np.float64)
    assert_round_trip(stage(mlp, matrices).program)
    assert_round_trip(stage(lambda x: (x[::-1], x[[0, 2]], -x, np.exp(x)), [F3]).program)


def test_avals_of_every_kind():
    for code, shape, weak in itertools.product("?bHqQefdgFDG", [(), (0,), (2, 3)], [True, False]):
        v = Var(Aval(shape, np.dtype(code), weak))
        q = parse(str(Program([v], [], [v])))
        assert q.in_avals == (v.aval,)
    v = Var(Aval((3,), ">f8"))
    assert str(Program([v], [], [v])) == "program(a: >f8[3]) {\n  return a\n}"
    assert_round_trip(Program([v], [], [v]))


def test_long_programs_do_not_recurse():
    p = chain(10 * sys.getrecursionlimit())
    assert parse(str(p)) == p


# ---------------------------------------------------------------------------------- shared programs


def test_a_repeated_program_is_printed_once():
    x = Var(F3)
    first = call(chain(1), x)
    second = call(chain(1), *first.outputs)
    p = Program([x], [first, second], second.outputs)
    assert str(p) == program_text("""
        program(a: f64[3]) {
          b: f64[3] = enclose[programs=(program @1(c: f64[3]) {
            d: f64[3] = sin c
            return d
          },)] a
          e: f64[3] = enclose[programs=(@1,)] b
          return e
        }
    """)
    assert_round_trip(p)
    inner = [e.params["programs"][0] for e in parse(str(p)).equations]
    assert inner[0] is inner[1]


def test_text_grows_with_the_distinct_programs():
    p = chain(1)
    for _ in range(40):
        x = Var(F3)
        first = call(p, x)
        second = call(p, *first.outputs)
        p = Program([x], [first, second], second.outputs)
    assert len(str(p)) < 40 * 400
    assert_round_trip(p)


# ------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    "text",
    [
        "program(a:f64[3],b:f64[]*;c:f32[2,3]){d:f64[3]=multiply a 2.0\nreturn d,b}",
        "# first\nprogram v1 ( a : f64[ 3 ] , b : f64[]* ; c : f32[2, 3,], ) # inputs\n"
        "{\n\n  # the product\n  d : f64[3]\n = multiply  a\t2.0  # model.py\n"
        "  return d , # both\n  b ,\n} # end\n\n",
        "\tprogram(\na: f64[3], b: f64[]*;\nc: f32[2,3]) {\r\n  d: f64[3] = multiply[] a 2.0\r\n"
        "  return d, b }",
    ],
)
def test_white_space_and_comments_are_free(text: str):
    assert str(parse(text)) == program_text("""
        program(a: f64[3], b: f64[]*; c: f32[2,3]) {
          d: f64[3] = multiply a 2.0
          return d, b
        }
    """)


def test_names_are_free():
    p = parse("program(theta: f64[3]) { y: f64[3] = sin theta\nreturn y }")
    assert p == stage(lambda x: (np.sin(x),), [F3]).program


@pytest.mark.parametrize(
    ("comment", "source"),
    [
        ("# model.py:12", Source("model.py", 12, "")),
        ("#model.py:12  ", Source("model.py", 12, "")),
        ("# <ipython-input: 3>:7", Source("<ipython-input: 3>", 7, "")),
        ("# the loss", None),
        ("#", None),
        ("", None),
    ],
)
def test_the_users_line_is_read(comment: str, source: Source | None):
    p = parse(f"program(a: f64[]) {{\n  b: f64[] = sin a {comment}\n  return b\n}}")
    assert p.equations[0].source == source
    assert p == parse(str(p))


def test_the_users_lines_stand_in_a_column():
    def f(x):
        y = np.sin(x)
        return (np.sum(y * 2.0),)

    p = stage(f, [F3]).program
    line = f.__code__.co_firstlineno
    assert to_text(p, source=True) == program_text(f"""
        program(a: f64[3]) {{
          b: f64[3] = sin a                           # test_text.py:{line + 1}
          c: f64[3] = multiply b 2.0                  # test_text.py:{line + 2}
          d: f64[] = sum[axes=None, keepdims=False] c  # test_text.py:{line + 2}
          return d
        }}
    """).replace("a                           #", "a                            #").replace(
        "2.0                  #", "2.0                   #"
    )
    assert "#" not in str(p)
    lines = [str(e.source) for e in parse(to_text(p, source=True)).equations]
    assert lines == [str(e.source) for e in p.equations]


def test_a_very_long_equation_does_not_push_the_column_away():
    x = Var(F3)
    eqns = [
        Equation(P.sin, (x,), {}, (Var(F3),), Source("model.py", 1, "")),
        Equation(NOTE, (x,), {"text": 90 * "a"}, (Var(F3),), Source("model.py", 2, "")),
        Equation(P.sin, (x,), {}, (Var(F3),)),
    ]
    lines = to_text(Program([x], eqns, []), source=True).split("\n")
    assert lines[1] == "  b: f64[3] = sin a  # model.py:1"
    assert lines[2].endswith("] a  # model.py:2")
    assert lines[3] == "  d: f64[3] = sin a"


# ------------------------------------------------------------------------------------------- errors

BODY = "program(a: f64[3]) {{\n  {}\n  return b\n}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: expected 'program(', found 'the end'"),
        ("# nothing\n", "line 2, column 1: expected 'program(', found 'the end'"),
        ("programme(a: f64[])", "line 1, column 1: expected 'program(', found 'programme'"),
        ("program {", "line 1, column 1: expected 'program(', found 'program'"),
        ("program v2() { return }", "line 1, column 10: format 2 is not read, only 1"),
        ("program(a f64[])", "line 1, column 9: expected ', name: type' or ')', found 'a'"),
        ("program(A: f64[])", "line 1, column 9: expected ', name: type' or ')', found 'A'"),
        ("program(a: f64)", "line 1, column 9: expected ', name: type' or ')', found 'a'"),
        ("program(a: f64[], b)", "line 1, column 19: expected ', name: type' or ')', found 'b'"),
        ("program(a: f63[3])", "line 1, column 12: no dtype is called 'f63'"),
        ("program(a: float64[])", "line 1, column 12: no dtype is called 'float64'"),
        ("program(a: f64[], a: f64[])", "line 1, column 19: 'a' is defined already"),
        ("program(a: f64[]; a: f64[])", "line 1, column 19: 'a' is defined already"),
        ("program(a: f64[])\n  return", "line 2, column 3: expected '{', found 'return'"),
        (
            "program(a: f64[]) {\n}",
            "line 2, column 1: expected an equation ('name: type = ...') or 'return', found '}'",
        ),
        (
            BODY.format("b = sin a"),
            "line 2, column 3: expected an equation ('name: type = ...') or 'return', found 'b'",
        ),
        (
            BODY.format("b: f64[3] sin a"),
            "line 2, column 13: expected ', name: type' or '=', found 'sin'",
        ),
        (
            BODY.format("b: f64[3] ="),
            "line 3, column 3: no primitive is called 'return'",
        ),
        (
            BODY.format("b: f64[3] = 2.0"),
            "line 2, column 15: expected the name of a primitive, found '2'",
        ),
        (BODY.format("b: f64[3] = sine a"), "line 2, column 15: no primitive is called 'sine'"),
        (
            BODY.format("b: f64[3] = sin c"),
            "line 2, column 19: 'c' is neither a variable defined above nor a number",
        ),
        (
            BODY.format("b: f64[3] = add a b"),
            "line 2, column 21: 'b' is neither a variable defined above nor a number",
        ),
        (
            BODY.format("b: f64[3] = add a, a"),
            "line 2, column 19: 'a,' is neither a variable defined above nor a number",
        ),
        (
            BODY.format("b: f64[3] = add a i8(300)"),
            "line 2, column 21: 'i8(300)' is neither a variable defined above nor a number",
        ),
        (BODY.format("a: f64[3] = sin a"), "line 2, column 3: 'a' is defined already"),
        (
            BODY.format("b: f64[3] = sum[axes] a"),
            "line 2, column 19: expected ', name=value' or ']', found 'axes'",
        ),
        (
            BODY.format("b: f64[3] = sum[axes=] a"),
            "line 2, column 24: expected a value of the parameter 'axes' of sum, found ']'",
        ),
        (
            BODY.format("b: f64[3] = sum[axes=(0 1)] a"),
            "line 2, column 27: expected ',' or ')', found '1'",
        ),
        (
            BODY.format("b: f64[3] = sum[axes=(0, a: f64[])] a"),
            "line 2, column 28: the parameter 'axes' of sum is a:, "
            "which is no value that can be read",
        ),
        (
            BODY.format("b: f64[3] = sum[axes=None keepdims=True] a"),
            "line 2, column 29: expected ', name=value' or ']', found 'keepdims'",
        ),
        (
            BODY.format("b: f64[3] = sum[axes=0, axes=1] a"),
            "line 2, column 27: the parameter 'axes' is given twice",
        ),
        (
            BODY.format("b: f64[3] = convert[dtype=f33] a"),
            "line 2, column 29: the parameter 'dtype' of convert is f33, "
            "which is no value that can be read",
        ),
        (
            BODY.format("b: f64[3] = getitem[index=[1:x]] a"),
            "line 2, column 29: the parameter 'index' of getitem: "
            "invalid literal for int() with base 10: 'x'",
        ),
        (
            BODY.format("b: f64[3] = enclose[programs=(@3,)] a"),
            "line 2, column 33: no program is labelled @3",
        ),
        (
            BODY.format("b: f64[3] = enclose[programs=program(c: f64[3]) { return a }] a"),
            "line 2, column 60: 'a' is neither a variable defined above nor a number",
        ),
        (
            BODY.format("b: f64[3] = custom[fun=<loss>] a").replace("custom", "note"),
            "line 2, column 24: the parameter 'fun' of note is <loss>, "
            "which has no text that can be read",
        ),
        ("program() { return 1 2 }", "line 1, column 22: expected ', output' or '}', found '2'"),
        ("program() { return c }", "line 1, column 20: 'c' is neither a variable defined above"),
        ("program() { return 1\n", "line 2, column 1: expected ', output' or '}', found 'the end'"),
        ("program() { return } }", "line 1, column 22: expected the end of the text, found '}'"),
        ("program() { return 0x3 }", "line 1, column 20: '0x3' is neither"),
        ("program() { return 1_000 }", "line 1, column 20: '1_000' is neither"),
        ("program() { return infinity }", "line 1, column 20: 'infinity' is neither"),
        ("program() { return None }", "line 1, column 20: 'None' is neither"),
        ("program() { return f32(True) }", "line 1, column 20: 'f32(True)' is neither"),
        ("program() { return bool(1) }", "line 1, column 20: 'bool(1)' is neither"),
        ("program() { return i32(True) }", "line 1, column 20: 'i32(True)' is neither"),
        ("program() { return i32(1.0) }", "line 1, column 20: 'i32(1.0)' is neither"),
        ("program() { return f64(1j) }", "line 1, column 20: 'f64(1j)' is neither"),
        ("program() { return float(1) }", "line 1, column 20: 'float(1)' is neither"),
        ("program() { return (1+2) }", "line 1, column 20: '(1+2)' is neither"),
    ],
)
def test_errors(text: str, message: str):
    with pytest.raises(ValueError, match=r"^line") as error:
        parse(text)
    assert str(error.value).startswith(message)


def test_the_error_points_at_the_word_itself():
    """Not at the first place where its letters occur."""
    text = "program(ab: f64[]) {\n  c: f64[] = add ab b\n  return c\n}"
    with pytest.raises(ValueError, match=r"line 2, column 21: 'b' is neither"):
        parse(text)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (lambda x: x, "<lambda>"),
        (np.sin, "<sin>"),
        (int, "<int>"),
        (SimpleNamespace(), "<SimpleNamespace>"),
        (frozenset(), "<frozenset>"),
    ],
)
def test_parameters_without_text(value: Any, word: str):
    p = noting(value=(1, value))
    assert f"note[value=(1, {word})] a" in str(p)
    with pytest.raises(ValueError, match="has no text") as error:
        parse(str(p))
    assert f"the parameter 'value' of note is {word}" in str(error.value)


class Mode:
    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mode) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"mode:{self.name}"


def test_registered_parameters(monkeypatch: pytest.MonkeyPatch):
    params = dict(module.PARAMS)
    monkeypatch.setattr(module, "PARAMS", params)
    monkeypatch.setattr(parsing, "PARAMS", params)
    p = noting(mode=(Mode("wrap"), Index((0, Ellipsis))))
    assert "note[mode=(<Mode>, [0, ...])] a" in str(p)
    register_param(Mode, r"mode:\w+", lambda text: Mode(text.removeprefix("mode:")))
    assert "note[mode=(mode:wrap, [0, ...])] a" in str(p)
    assert_round_trip(p)


def test_the_version_is_stated():
    assert FORMAT_VERSION == 1
    assert parse("program v1() { return 2 }") == returning(2)
    assert f"this is version {FORMAT_VERSION}" in module.__doc__


# ---------------------------------------------------------------------------------- being looked at


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_colours_change_nothing_but_colours():
    x, t = Var(F3), Var(F3)
    product = equation(P.multiply, (t, x), {})
    wave = equation(P.sin, (x,), {})
    total = equation(P.sum, product.outputs, {"axes": (0,), "keepdims": True})
    p = Program([x, t], [product, wave, total], [*total.outputs], linear=1)
    colored = to_text(p, color=True)
    assert re.sub("\33\\[[0-9]+m", "", colored) == str(p)
    first = (
        "  \33[33mc\33[0m: \33[2mf64[3]\33[0m = \33[34mmultiply\33[0m \33[33mb\33[0m a\n"
        "  d: \33[2mf64[3]\33[0m = \33[34msin\33[0m a\n"
    )
    assert first in colored


@given(random_programs())
def test_html_is_the_text_in_colours(p: Program):
    assert plain(to_html(p)) == to_text(p, source=True)
    assert p._repr_html_() == to_html(p)
    assert re.sub("\33\\[[0-9]+m", "", to_text(p, color=True)) == str(p)


def test_html_escapes_and_marks():
    x, t = Var(F3), Var(F3)
    eqn = Equation(
        NOTE,
        (t,),
        {"f": lambda: 0, "text": "<b> & a # 'return'"},
        (Var(F3),),
        Source("<stdin>", 1, ""),
    )
    text = to_html(Program([x, t], [eqn], eqn.outputs, linear=1))
    linear = '<span style="color:#c4622d">{}</span>'.format
    assert "<b>" not in text
    assert "f=&lt;lambda&gt;" in text
    assert "text=\"&lt;b&gt; &amp; a # 'return'\"]" in text
    assert f"] {linear('b')}" in text
    assert "# &lt;stdin&gt;:1</span>" in text
    assert linear("a") not in text
    assert f'<span style="font-weight:bold">return</span> {linear("c")}' in text


def test_html_of_a_long_program_leaves_out_the_middle():
    p = chain(10_000)
    lines = plain(to_html(p)).split("\n")
    whole = str(p).split("\n")
    assert len(lines) == 401
    assert lines[:350] == whole[:350]
    assert lines[350] == "  # 9,603 lines are left out; print(program) shows all"
    assert lines[351:] == whole[-50:]


GOLDEN: dict[str, Callable[..., Any]] = {
    "mlp": lambda x, w, v: (np.sum(np.tanh(x @ w) @ v),),
    "softmax": lambda x, w, v: (np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True),),
    "indexing": lambda x, w, v: (x[0] * w[:, None, 1], v[[0, 2]], x[..., ::-1]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, golden: Callable[[str, str], None]):
    avals = Aval((2, 3), np.float64), Aval((3, 4), np.float64), Aval((4,), np.float32)
    p = stage(GOLDEN[name], avals).program
    golden(f"text-{name}", str(p))
    assert_round_trip(p)
