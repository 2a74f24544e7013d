"""Values added at known places: one array of zeros for all of them, none for one that is read."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vjpkit as vk
from tests.laws.test_metamorphic import close, some
from vjpkit.backends import executable
from vjpkit.core.ir import check
from vjpkit.ops.index import Index, are_apart
from vjpkit.passes import optimize

X = np.arange(12.0).reshape(3, 4) / 7 - 0.6


def names(f: Any) -> list[str]:
    """The primitives of the gradient's optimised program, which gives what the gradient gives."""
    closed = vk.make_ir(vk.grad(f))(X)
    program = optimize(closed.program)
    check(program)
    for run in (program.eval, executable(closed.program)):
        (got,) = run(*closed.consts, X)
        close(got, vk.grad(f)(X))
    return [eqn.primitive.name for eqn in program.equations]


def several_reads(x: Any) -> Any:
    """The rows of a sum, in two terms each of which has read both of them."""
    return sum(np.sum(np.sin(y[0]) * y[1]) for y in (x + 1.0, 3.0 - x, x - 2.0))


def test_sums_at_the_same_places_are_one_sum():
    assert names(several_reads).count("scatter_sum") == 1
    closed = vk.make_ir(vk.hessian(several_reads))(X)
    close(executable(closed.program)(*closed.consts, X)[0], vk.hessian(several_reads)(X))


def test_sums_at_other_places_are_one_sum():
    f = lambda x: np.sum(np.sin((x - 2.0)[:2])) + np.sum(np.cos((x + 1.0)[1:]))
    assert names(f).count("scatter_sum") == 1


def test_one_that_is_read_elsewhere_stays():
    def f(x):
        return np.sum(np.exp(x)[1:]), np.sum(np.sin(x)[1:])

    _, pullback = vk.vjp(f, X)
    program = vk.make_ir(lambda a, b: (g := pullback((a, b))[0], np.tanh(g)))(1.0, 2.0)
    for got, want in zip(executable(program.program)(*program.consts, 1.0, 2.0),
                         program(1.0, 2.0), strict=True):  # fmt: skip
        close(got, want)


def parts_of_a_stack(x: Any) -> Any:
    """What a stack is made of gets back parts of sums of parts."""
    y = np.stack([np.sin(x[0]), np.cos(x[1])])
    z = 1.0 - y
    return np.sum(z[0] * z[1] * z[0]) + np.sum((y + 2.0)[1] ** 2)


def test_a_part_that_is_read_is_what_was_added_there():
    found = names(parts_of_a_stack)
    assert found.count("scatter_sum") == 1  # into the operand
    assert found.count("getitem") == 5  # all of them in the function


READS: dict[str, tuple[Any, Any, bool]] = {
    "the same": (np.s_[0], np.s_[0], True),
    "another": (np.s_[0], np.s_[1], False),
    "more": (np.s_[0], np.s_[:2], False),
    "the same slice": (np.s_[1:], np.s_[1:], True),
    "a part of a slice": (np.s_[1:], np.s_[2], False),
    "with an axis": (np.s_[None, 0], np.s_[None, 0], True),
    "backwards": (np.s_[::-1], np.s_[::-1], True),
}


@pytest.mark.parametrize("name", READS)
def test_reads_of_sums(name: str):
    """Of one value, and of two that meet, or do not, where they are read."""
    written, read, same = READS[name]
    last = vk.linear_transpose(lambda x: (x[written], x[2, 1:]), X)

    def f(a, b):
        (total,) = last((a, b))
        return total[read] * 2.0

    a, b = X[written] + 0.5, X[2, 1:] - 1.0
    closed = vk.make_ir(f)(a, b)
    found = [eqn.primitive.name for eqn in optimize(closed.program).equations]
    apart = np.intersect1d(np.arange(12).reshape(3, 4)[read], np.arange(12)[9:]).size == 0
    assert ("scatter_sum" not in found) == (same and apart)
    close(executable(closed.program)(*closed.consts, a, b)[0], f(a, b))


def test_programs_grow_in_proportion_to_their_length():
    """Many sums at different places, one after the other, are not joined all over again."""

    def f(n):
        def g(x):
            return sum(np.sum(np.sin((x + float(i))[i : i + 2])) for i in range(n))

        return vk.make_ir(vk.grad(g))(np.arange(100.0)).program

    operands = [sum(len(e.inputs) for e in optimize(f(n)).equations) for n in (20, 40, 80)]
    steps = [b - a for a, b in pairwise(operands)]
    assert steps[1] <= 2.2 * steps[0]


entries = st.one_of(
    st.integers(-4, 3),
    st.none(),
    st.just(...),
    st.builds(
        slice,
        *[st.one_of(st.none(), st.integers(-5, 5))] * 2,
        st.sampled_from([None, 1, 2, 3, -1, -2]),
    ),
)


@st.composite
def indices(draw: Any) -> Any:
    found = draw(st.lists(entries, max_size=4))
    kept: list[Any] = []
    for e in found:
        kept += [] if e is ... and ... in kept else [e]
    while sum(e is not None and e is not ... for e in kept) > 2:
        kept.pop()
    return tuple(kept)


@some
@given(indices(), indices())
def test_places_that_are_apart_have_no_element_in_common(one: Any, other: Any):
    numbers = np.arange(20).reshape(4, 5)
    common = np.intersect1d(numbers[one], numbers[other])
    apart = are_apart(Index(one), Index(other), numbers.shape)
    assert are_apart(Index(other), Index(one), numbers.shape) == apart
    assert not (apart and common.size)
    steps = [e.step for e in (*one, *other) if isinstance(e, slice)]
    if not common.size and all(step in (None, 1, -1) for step in steps):
        assert apart or not numbers[one].size or not numbers[other].size
