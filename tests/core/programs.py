"""Programs for tests: random ones built from the registry's samples, long ones, nested ones."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from vjpkit.control.calls import Apply
from vjpkit.control.external import Opaque
from vjpkit.core.aval import Aval, aval_of
from vjpkit.core.ir import Atom, Equation, Literal, Program, Var
from vjpkit.core.primitive import Primitive, Sample, registered

F3 = Aval((3,), np.float64)

P: Any = SimpleNamespace(**registered())
"""The primitives by name (type checkers take a decorated class for a class)."""


class enclose(Primitive):
    """Runs the programs among its parameters one after the other."""

    multi = True

    def abstract(self, *avals: Aval, **params: Any) -> Any:
        return tuple(a for p in params["programs"] for a in p.out_avals)

    def linear_in(self, mask: tuple[bool, ...], params: Any) -> bool:
        return bool(mask) and all(mask)


ENCLOSE = enclose()


def samples() -> Iterator[tuple[Primitive, Sample]]:
    """Every primitive's every sample."""
    for primitive in registered().values():
        if isinstance(primitive, Apply | Opaque):
            continue  # stands in no program, or for Python code, which has no text to be read
        for sample in primitive.samples():
            yield primitive, sample


SAMPLES = list(samples())


def equation(primitive: Primitive, inputs: tuple[Atom, ...], params: dict[str, Any]) -> Equation:
    """An equation with the outputs that the primitive infers."""
    avals = primitive.unpack(primitive.abstract(*[a.aval for a in inputs], **params))
    return Equation(primitive, inputs, params, tuple(Var(aval) for aval in avals))


def sample_equation(primitive: Primitive, sample: Sample) -> Equation:
    """The equation of one sample: arrays as variables, scalars as literals."""
    xs, params = primitive.canonical(sample.operands, dict(sample.params))
    inputs = tuple(
        Literal(x) if isinstance(x, int | float | complex | np.generic) else Var(aval_of(x))
        for x in xs
    )
    return equation(primitive, inputs, params)


def chain(length: int) -> Program:
    """sin(sin(sin(... x)))."""
    x = Var(F3)
    equations = []
    y = x
    for _ in range(length):
        equations.append(equation(P.sin, (y,), {}))
        (y,) = equations[-1].outputs
    return Program([x], equations, [y])


def call(program: Program, *inputs: Atom) -> Equation:
    """An equation that runs ``program``; it reads and pickles where `ENCLOSE` is registered."""
    return equation(ENCLOSE, inputs, {"programs": (program,)})


def long_complex(parts: tuple[float, float]) -> np.clongdouble:
    """A complex number whose parts need more than double precision."""
    return (np.array(parts, np.longdouble) / 3).view(np.clongdouble)[0]


SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(allow_nan=True, allow_infinity=True),
    st.booleans().map(np.bool_),
    st.integers(-128, 127).map(np.int8),
    st.integers(0, 2**64 - 1).map(np.uint64),
    st.floats(width=16).map(np.float16),
    st.floats(width=32).map(np.float32),
    st.floats().map(np.float64),
    st.floats().map(lambda x: np.longdouble(x) / 3),
    st.builds(complex, st.floats(width=32), st.floats(width=32)).map(np.complex64),
    st.builds(complex, st.floats(), st.floats()).map(np.complex128),
    st.tuples(st.floats(), st.floats()).map(long_complex),
)


@st.composite
def random_programs(draw: st.DrawFn, depth: int = 1) -> Program:
    """Well-formed programs; operands are inputs, earlier values of the same aval, or literals."""
    known: list[Var] = []
    inputs: list[Var] = []
    equations: list[Equation] = []

    def operand(aval: Aval) -> Var:
        fitting = [v for v in known if v.aval == aval]
        again = draw(st.booleans())
        if fitting and again:
            return draw(st.sampled_from(fitting))
        inputs.append(Var(aval))
        known.append(inputs[-1])
        return inputs[-1]

    for _ in range(draw(st.integers(0, 8))):
        if depth and draw(st.integers(0, 5)) == 0:
            inner = draw(random_programs(depth - 1))
            new = call(inner, *map(operand, inner.in_avals))
        else:
            new = sample_equation(*draw(st.sampled_from(SAMPLES)))
            atoms = (operand(a.aval) if isinstance(a, Var) else a for a in new.inputs)
            new = Equation(new.primitive, tuple(atoms), new.params, new.outputs)
        equations.append(new)
        known.extend(new.outputs)
    outputs: list[Atom] = draw(st.lists(st.sampled_from(known), max_size=4)) if known else []
    outputs += draw(st.lists(SCALARS.map(Literal), max_size=2))
    return Program(inputs, equations, outputs)
