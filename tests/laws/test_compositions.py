"""Random compositions: transforms and control flow, of one another, over every dtype and shape.

A composition is built twice: with vjpkit's transforms and control flow, and with Python's loops and
branches, where derivatives alone are taken by eager `grad` and `jvp`. Every part keeps shape and
dtype, so that each can follow each; results agree in value, shape and dtype, at the values at which
programs are staged and at others.
"""

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import vjpkit as vk

# Watched parts are also drawn within staged ones, where debug_nans says that it sees nothing.
pytestmark = pytest.mark.filterwarnings("ignore:debug_nans.*not known")

Function = Callable[[Any], Any]
Pair = tuple[Function, Function]
"""A composition with vjpkit's means, and the reference."""

SHAPES = ((), (1,), (3,), (2, 2), (0,), (2, 0))


def tamed(x):
    """``x`` moved into the unit disc, so that no composition grows."""
    return 0.7 * x / np.sqrt(1 + np.real(x * np.conj(x)))


@dataclass(frozen=True)
class Setting:
    """Shape and dtype of all values, and vectors and choices that parts draw."""

    shape: tuple[int, ...]
    dtype: Any
    generator: np.random.Generator

    def vector(self, *lead: int) -> Any:
        x = self.generator.uniform(-1, 1, (*lead, *self.shape))
        y = self.generator.uniform(-1, 1, x.shape) if self.dtype.kind == "c" else 0.0
        return np.asarray(x + 1j * y if self.dtype.kind == "c" else x).astype(self.dtype)

    def choice(self, *options: Any) -> Any:
        return options[self.generator.integers(len(options))]

    def axis(self) -> int:
        """One for a batch beside the others."""
        return int(self.generator.integers(-len(self.shape) - 1, len(self.shape) + 1))


# ----------------------------------------------------------------------------------------- programs


def smooth(s: Setting) -> Function:
    a, b = s.vector(), s.vector()
    return lambda x: tamed(np.sin(x) * a + np.exp(-x * np.conj(x)) * b + x)


def written(s: Setting) -> Function:
    mask = s.generator.random(s.shape) < 0.5

    def f(x):
        y = np.zeros_like(x)
        y[...] = np.cos(x)
        y[mask] += x[mask] ** 2
        y *= x
        return tamed(y)

    return f


def gathered(s: Setting) -> Function:
    def f(x):
        if not x.size:
            return 2 * x
        v = np.reshape(x, (-1,))
        places = np.floor(5 * np.real(v)).astype(int) % v.shape[0]
        y = v[places] * np.sin(v)
        np.add.at(y, places, v)
        return tamed(np.reshape(y, x.shape))

    return f


def solved(s: Setting) -> Function:
    n = math.prod(s.shape)
    base = (np.diag(np.arange(1.0, n + 1)) + 0.1).astype(s.dtype)

    def f(x):
        v = np.reshape(x, (-1,))
        a = 0.3 * np.outer(v, np.conj(v)) + base
        return tamed(np.reshape(np.linalg.solve(a, np.sin(v)), x.shape) * np.linalg.slogdet(a)[1])

    return f


def transformed(s: Setting) -> Function:
    def f(x):
        if not x.size:
            return np.sin(x)
        y = np.fft.ifft(np.fft.fft(np.reshape(x, (-1,))) ** 2)
        y = y if x.dtype.kind == "c" else np.real(y)
        return tamed(np.reshape(y, x.shape).astype(x.dtype))

    return f


def singular(s: Setting) -> Function:
    """A branch that is not taken, whose slope is infinite."""

    def f(x):
        ones = 1 + 0 * np.real(x)
        return tamed(np.where(ones > 0, np.sin(x), (np.sqrt(ones - 1) * x).astype(x.dtype)))

    return f


def views(s: Setting) -> Function:
    def f(x):
        if not x.shape:
            return tamed(x * x)
        y = x.copy()
        v = np.reshape(y, (-1,))
        v[::2] *= 2
        v[:1] += np.cos(v[-1:])
        y[...] = np.sin(y)
        return tamed(y)

    return f


PROGRAMS = {
    f.__name__: f for f in (smooth, written, gathered, solved, transformed, singular, views)
}


# ------------------------------------------------------------------------------------- control flow


def cond(s: Setting, f: Pair, g: Pair) -> Pair:
    limit = s.generator.uniform(-0.5, 0.5)
    first = lambda x: np.sum(np.real(x)) > limit
    return (
        lambda x: vk.lax.cond(first(x), f[0], lambda x: 2 * g[0](x), x),
        lambda x: f[1](x) if first(x) else 2 * g[1](x),
    )


def switch(s: Setting, f: Pair, g: Pair) -> Pair:
    index = lambda x: np.floor(2 * np.sum(np.real(x))).astype(int)
    return (
        lambda x: vk.lax.switch(index(x), [f[0], g[0], lambda x: x * x], x),
        lambda x: (f[1], g[1], lambda x: x * x)[np.clip(index(x), 0, 2)](x),
    )


def while_loop(s: Setting, f: Pair) -> Pair:
    kept = s.choice({}, {"checkpoint": "revolve", "slots": 2})
    steps = lambda x: np.floor(2 * np.abs(np.sum(np.real(x)))).astype(int) % 3 + 1

    def got(x):
        step = lambda c: {"i": c["i"] + 1, "v": tamed(f[0](c["v"]) + 0.5 * x)}
        n = steps(x)
        return vk.lax.while_loop(lambda c: c["i"] < n, step, {"i": 0, "v": x}, **kept)["v"]

    def want(x):
        v = x
        for _ in range(steps(x)):
            v = tamed(f[1](v) + 0.5 * x)
        return v

    return got, want


def scan(s: Setting, f: Pair) -> Pair:
    n, reverse = s.choice(0, 1, 3), s.choice(False, True)
    options = s.choice({}, {"unroll": 2}, {"checkpoint": "revolve", "slots": 2})
    ys = s.vector(n)

    def step(f, x, carry, y):
        v = tamed(f(carry["v"]) + x * y)
        return {"v": v, "k": carry["k"] + 1}, (v * x, carry["k"])

    def got(x):
        carry, (vs, ks) = vk.lax.scan(
            lambda c, y: step(f[0], x, c, y), {"v": x, "k": 0}, ys, reverse=reverse, **options
        )
        weights = np.reshape(ks, (n, *[1] * np.ndim(x))).astype(vs.real.dtype)
        return carry["v"] + np.sum(vs * weights, axis=0)

    def want(x):
        carry, total = {"v": x, "k": 0}, 0 * x
        for y in ys[::-1] if reverse else ys:
            carry, (v, k) = step(f[1], x, carry, y)
            total = total + v * k
        return carry["v"] + total

    return got, want


def mapped(s: Setting, f: Pair) -> Pair:
    scales, size = s.vector(3), s.choice(None, 1, 2)
    return (
        lambda x: np.sum(vk.lax.map(f[0], scales * x, batch_size=size), axis=0),
        lambda x: sum([f[1](a * x) for a in scales], 0 * x),
    )


def fori_loop(s: Setting, f: Pair) -> Pair:
    n, staged = s.choice(0, 1, 3), s.choice(False, True)
    options = s.choice({}, {"checkpoint": "revolve", "slots": 2})
    count = lambda x: n + (np.sum(np.real(x)) * 0).astype(int) if staged else n
    return (
        lambda x: vk.lax.fori_loop(0, count(x), lambda _, v: tamed(f[0](v) + x), x, **options),
        lambda x: reduce(lambda v, _: tamed(f[1](v) + x), range(n), x),
    )


def checkpoint_loop(s: Setting, f: Pair) -> Pair:
    n, slots, known = s.choice(1, 2, 4), s.choice(1, 2), s.choice(False, True)
    scales = s.vector(n)

    def got(x):
        step = lambda c, a, x: {"v": tamed(f[0](c["v"]) + x * a), "n": c["n"] + 1}
        items = scales if known else iter(scales)
        return vk.checkpoint_loop(step, {"v": x, "n": 0}, items, slots=slots, args=(x,))["v"]

    return got, lambda x: reduce(lambda v, a: tamed(f[1](v) + x * a), scales, x)


def associative_scan(s: Setting, f: Pair) -> Pair:
    scales, axis, reverse = s.vector(4), s.axis(), s.choice(False, True)

    def got(x):
        xs = np.stack([f[0](x) * a for a in scales], axis=axis)
        sums = vk.lax.associative_scan(np.add, xs, reverse=reverse, axis=axis)
        return np.sum(sums, axis=axis)

    def want(x):
        weights = range(1, 5) if reverse else range(4, 0, -1)
        return sum([f[1](x) * a * x.dtype.type(k) for a, k in zip(scales, weights, strict=True)])

    return got, want


def linear_solve(s: Setting, f: Pair) -> Pair:
    """Richardson's iteration, which compares what it is given."""

    def solver(matvec, b):
        least = 8 * np.finfo(b.dtype).eps
        off = lambda x: np.sum(np.abs(b - matvec(x))) > least * (1 + np.sum(np.abs(b)))
        step = lambda c: (c[0] + 1, c[1] + 0.5 * (b - matvec(c[1])))
        return vk.lax.while_loop(lambda c: (c[0] < 99) & off(c[1]), step, (0, np.zeros_like(b)))[1]

    factor = lambda x: 1.2 + 0.2 * np.cos(np.real(x))

    def got(x):
        d = factor(x)
        matvec = lambda v: (d * v).astype(v.dtype)
        return vk.lax.custom_linear_solve(matvec, f[0](x), solver, solver)

    return got, lambda x: f[1](x) / factor(x)


# --------------------------------------------------------------------------------------- transforms


def grad(s: Setting, f: Pair) -> Pair:
    v = s.vector()
    got = lambda p: np.sum(np.real(f[0](p["x"][0]) * v))
    return (
        lambda x: vk.grad(got)({"x": [x]})["x"][0],
        vk.grad(lambda x: np.sum(np.real(f[1](x) * v))),
    )


def jvp(s: Setting, f: Pair) -> Pair:
    v = s.vector()
    push = lambda f: lambda x: vk.jvp(f, (x,), (v * x,))[1]
    return push(f[0]), push(f[1])


def pulled(s: Setting, f: Pair) -> Pair:
    v = s.vector()
    pull = lambda f: lambda x: vk.vjp(f, x)[1](v)[0]
    way = s.choice(
        pull(f[0]),
        lambda x: vk.vjp(f[0], x)[1].T.T(v)[0],
        lambda x: vk.vjp(f[0], x)[1].batched(np.stack([x, v]))[0][1],
        lambda x: vk.linear_transpose(lambda t: vk.jvp(f[0], (x,), (t,))[1], x)(v)[0],
    )
    return way, pull(f[1])


def returned(s: Setting, f: Pair) -> Pair:
    """A map that is made in one compiled or mapped function, and applied in another."""
    v, compiled = s.vector(), partial(vk.jit, backend="numpy")
    linear = lambda x: vk.linearize(f[0], x)[1]
    plain = lambda x: not isinstance(x, vk.core.Tracer)
    way = s.choice(
        lambda x: compiled(linear)(x).T(v)[0],
        lambda x: compiled(lambda push: push.T(v)[0])(compiled(linear)(x)),
        lambda x: vk.vmap(lambda push: push.T(v)[0])(vk.vmap(linear)(np.stack([v, x])))[1],
        lambda x: compiled(linear)(x).T.T.T(v)[0],
        lambda x: pickle.loads(pickle.dumps(linear(x))).T(v)[0] if plain(x) else linear(x).T(v)[0],
    )
    return way, lambda x: vk.vjp(f[1], x)[1](v)[0]


def closed_over(s: Setting, f: Pair) -> Pair:
    """Inside of a transform, what an outer one traces."""
    v = s.vector()
    return s.choice(
        (
            lambda x: vk.jvp(lambda t: f[0](x) * t * t, (x,), (v,))[1],
            lambda x: 2 * f[1](x) * x * v,
        ),
        (
            lambda x: np.sum(vk.vmap(lambda a: f[0](x) * a)(np.stack([x, v])), axis=0),
            lambda x: f[1](x) * x + f[1](x) * v,
        ),
        (
            lambda x: vk.jit(lambda a: f[0](x) * a, backend="numpy")(v),
            lambda x: f[1](x) * v,
        ),
        (
            lambda x: vk.lax.cond(np.sum(np.real(x)) > 0, lambda: f[0](x) * v, lambda: x * x),
            lambda x: f[1](x) * v if np.sum(np.real(x)) > 0 else x * x,
        ),
    )


def collective(s: Setting, f: Pair) -> Pair:
    scales, keep = s.vector(3), s.choice(lambda g: g, vk.jit, vk.checkpoint)

    def got(x):
        inner = lambda z: vk.lax.psum(f[0](z) * vk.lax.psum(z, "j"), "i") * z
        one = lambda y: np.sum(vk.vmap(inner, axis_name="j")(np.stack([y, 2 * y])), axis=0)
        return tamed(np.sum(vk.vmap(keep(one), axis_name="i")(scales * x), axis=0))

    def want(x):
        ys = [a * x for a in scales]
        sums = [sum([f[1](k * y) * (3 * y) for y in ys], 0 * x) for k in (1, 2)]
        return tamed(sum([t * k * y for k, t in zip((1, 2), sums, strict=True) for y in ys], 0 * x))

    return got, want


def linearized(s: Setting, f: Pair) -> Pair:
    v = s.vector()
    got = lambda y, push: y + push(v)
    return lambda x: got(*vk.linearize(f[0], x)), lambda x: sum(vk.jvp(f[1], (x,), (v,)))


def jet(s: Setting, f: Pair) -> Pair:
    v, w = s.vector(), s.vector()

    def want(x):
        one = np.ones((), x.real.dtype)
        along = lambda h: f[1](x + h * v + h * h * w)
        slope = lambda h: vk.jvp(along, (h,), (one,))[1]
        return slope(0 * one) + vk.jvp(slope, (0 * one,), (one,))[1] / 2

    return lambda x: sum(vk.jet(f[0], (x,), ([v, w],))[1]), want


def curvature(s: Setting, f: Pair) -> Pair:
    if s.dtype.kind == "c":
        return f
    v = s.vector()
    energy = lambda f: lambda x: np.sum(f(x) * v)
    contracted = lambda x: np.tensordot(vk.hessian(energy(f[0]))(x), v, np.ndim(x))
    basis = np.eye(v.size, dtype=s.dtype).reshape(v.size, *s.shape)
    second = lambda x, e: vk.jvp(lambda x: vk.jvp(f[1], (x,), (e,))[1], (x,), (e,))[1]
    return s.choice(
        (contracted, lambda x: vk.jvp(vk.grad(energy(f[1])), (x,), (v,))[1]),
        (vk.laplacian(f[0]), lambda x: sum([second(x, e) for e in basis], 0 * x)),
    )


def vmap(s: Setting, f: Pair) -> Pair:
    scales, there, back = s.vector(3), s.axis(), s.axis()

    def got(x):
        one = lambda p, q: {"y": f[0](p["a"]) * p["b"], "z": vk.lax.pmean(q, "examples")}
        axes, out = ({"a": there, "b": None}, 0), {"y": back, "z": None}
        xs = scales * x
        r = vk.vmap(one, in_axes=axes, out_axes=out, axis_name="examples")(
            {"a": np.moveaxis(xs, 0, there), "b": x}, xs
        )
        return np.sum(np.moveaxis(r["y"], back, 0), axis=0) + r["z"]

    def want(x):
        return sum([f[1](a * x) * x for a in scales], 0 * x) + np.mean(scales * x, axis=0)

    return got, want


def keeps(*ways: Callable[[Function], Function]) -> Callable[[Setting, Pair], Pair]:
    """What changes nothing but how a function runs."""
    return lambda s, f: (s.choice(*ways)(f[0]), f[1])


def by_jvp(f: Function) -> Function:
    g = vk.custom_jvp(lambda x: f(x))
    g.defjvp(lambda primals, ts: vk.jvp(f, primals, ts))
    return g


def by_vjp(f: Function) -> Function:
    g = vk.custom_vjp(lambda x: f(x))
    g.defvjp(lambda x: (f(x), x), lambda x, ct: vk.vjp(f, x)[1](ct))
    return g


def scoped(f: Function) -> Function:
    return vk.named_scope("part")(lambda x: f(x))


def static(f: Function) -> Function:
    g = vk.jit(lambda x, k, *, way: f(x) * k if way == "on" else x, static_argnums=1,
               static_argnames="way", backend="numpy")  # fmt: skip
    return lambda x: g(x, 1, way="on")


KEEPING = {
    "jit": keeps(lambda f: vk.jit(f, backend="numpy"), static),
    "checkpoint": keeps(
        vk.checkpoint,
        lambda f: vk.checkpoint(f, policy=vk.checkpoint_policies.nothing_saveable),
        lambda f: vk.checkpoint(f, memory=40),
    ),
    "ruled": keeps(
        by_jvp,
        by_vjp,
        lambda f: vk.custom_rule(lambda x: f(x), vmap=lambda n, _, x: (vk.vmap(f)(x), True)),
    ),
    "watched": keeps(vk.debug_nans, scoped),
}
OF_ONE = KEEPING | {
    f.__name__: f
    for f in (
        while_loop,
        scan,
        fori_loop,
        checkpoint_loop,
        associative_scan,
        mapped,
        linear_solve,
        grad,
        jvp,
        pulled,
        returned,
        closed_over,
        collective,
        linearized,
        jet,
        curvature,
        vmap,
    )
}
OF_TWO = {f.__name__: f for f in (cond, switch)}
MAKERS: dict[str, Any] = PROGRAMS | OF_ONE | OF_TWO

Part = tuple[Any, ...]
"""The name of what makes it, and the parts that it is made of."""

parts = st.recursive(
    st.tuples(st.sampled_from(sorted(PROGRAMS))),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(sorted(OF_ONE)), inner),
        st.tuples(st.sampled_from(sorted(OF_TWO)), inner, inner),
    ),
    max_leaves=3,
)


def depth(part: Part) -> int:
    return max([0, *[1 + depth(p) for p in part[1:]]])


def built(s: Setting, part: Part) -> Pair:
    name, *inner = part
    made = MAKERS[name](s, *[built(s, p) for p in inner])
    return made if inner else (made, made)


@settings(max_examples=250, derandomize=True)
@given(
    parts.filter(lambda p: 1 <= depth(p) <= 4),
    st.sampled_from(SHAPES),
    st.sampled_from(("f8", "f4", "c16", "c8")),
    st.integers(0, 2**16),
)
def test_compositions_are_what_they_compose(part, shape, dtype, seed):
    s = Setting(shape, np.dtype(dtype), np.random.default_rng(seed))
    got, want = built(s, part)
    first, second = s.vector(), s.vector()
    for x in (first, second, first):
        kept, y, reference = x.copy(), got(x), want(x)
        assert isinstance(y, np.ndarray | np.generic)
        assert (np.shape(y), y.dtype) == (shape, s.dtype) == (np.shape(reference), reference.dtype)
        size = 1 + np.max(np.abs(reference), initial=0)
        tolerance = 1e-9 if dtype in ("f8", "c16") else 1e-3
        assert np.max(np.abs(y - reference), initial=0) <= tolerance * size
        np.testing.assert_array_equal(x, kept)


BACKWARDS = {"grad", "pulled", "linearized", "curvature"}
CONTROL = {"cond", "switch", "while_loop", "scan", "fori_loop", "mapped", "closed_over"}


def most(part: Part, names: set[str]) -> int:
    """How many parts of these names lie one in the other."""
    return (part[0] in names) + max([0, *[most(p, names) for p in part[1:]]])


def keeps_bits(part: Part) -> bool:
    """Not where a derivative of control flow is differentiated in reverse mode: its values and its
    pullback have cotangents of their own then. Nor in reverse mode through a ``while`` that is
    mapped, in Laplacians of control flow, in maps that other compiled functions take, and in loops
    of LAPACK's and of Fourier transforms, whose bits depend on how their operands lie in memory."""
    control, backwards = most(part, CONTROL), most(part, BACKWARDS)
    mapped = most(part, {"vmap", "collective", "closed_over", "mapped"})
    through_while = mapped and backwards and most(part, {"while_loop"})
    by_layout = control and most(part, {"solved", "transformed", "linear_solve"})
    laplacian = control and most(part, {"curvature"})
    twice = control and backwards > 1
    return not (twice or through_while or laplacian or by_layout or most(part, {"returned"}))


@settings(max_examples=150, derandomize=True)
@given(
    parts.filter(lambda p: 1 <= depth(p) <= 4 and keeps_bits(p)),
    st.sampled_from(SHAPES),
    st.sampled_from(("f8", "f4")),
    st.integers(0, 2**16),
)
def test_without_passes_a_program_has_eager_bits(part, shape, dtype, seed):
    """Real ones: NumPy's own complex products depend on where an operand lies."""
    s = Setting(shape, np.dtype(dtype), np.random.default_rng(seed))
    got, _ = built(s, part)
    x = s.vector()
    np.testing.assert_array_equal(vk.jit(got, passes=False)(x), got(x), strict=True)


@pytest.mark.parametrize("name", sorted(OF_ONE | OF_TWO))
@pytest.mark.parametrize("dtype", ["f4", "c16"])
@pytest.mark.parametrize("shape", [(), (2, 0)])
def test_each_part_under_a_mapped_gradient(name, dtype, shape):
    """Where chance may not lead: scalars and arrays without elements, single precision, complex."""
    part = (name, *[("smooth",), ("written",)][: 2 if name in OF_TWO else 1])
    for whole in (("vmap", ("grad", part)), ("jit", ("grad", ("vmap", part)))):
        s = Setting(shape, np.dtype(dtype), np.random.default_rng(1))
        got, want = built(s, whole)
        x = s.vector()
        np.testing.assert_allclose(got(x), want(x), rtol=1e-3 if dtype == "f4" else 1e-9, atol=1e-6)
