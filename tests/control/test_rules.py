"""Custom rules under every transform: the rule is what counts, however the transforms nest.

The rules here are not the functions' derivatives: f(x) = sin(x) has the "derivative" 3 cos(x), so a
transform that looks past a rule gives another number.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vjpkit as vk
import vjpkit.numpy as vnp
from vjpkit.core.errors import ClosedTraceError, NotDifferentiableError

X = np.array([0.1, 0.7, -0.4])
Function = Callable[..., Any]
WRONG: Any = np.cos


def by_vjp() -> Function:
    f = vk.custom_vjp(np.sin)
    f.defvjp(lambda x: (np.sin(x), x), lambda x, ct: (3.0 * ct * np.cos(x),))
    return f


def by_symbolic_vjp() -> Function:
    f = vk.custom_vjp(lambda x: np.sin(x))
    f.defvjp(
        lambda x: (np.sin(x.value), x.value),
        lambda x, ct: (3.0 * ct * np.cos(x),),
        symbolic_zeros=True,
    )
    return f


def by_jvp() -> Function:
    f = vk.custom_jvp(lambda x: np.sin(x))
    f.defjvp(lambda primals, ts: (f(*primals), 3.0 * ts[0] * np.cos(primals[0])))
    return f


def by_defjvps() -> Function:
    f = vk.custom_jvp(lambda x: np.sin(x))
    f.defjvps(lambda t, out, x: 3.0 * t * np.cos(x))
    return f


def by_both() -> Function:
    return vk.custom_rule(
        lambda x: np.sin(x),
        jvp=lambda primals, ts: (np.sin(primals[0]), 3.0 * ts[0] * np.cos(primals[0])),
        vjp=(lambda x: (np.sin(x), x), lambda x, ct: (3.0 * ct * np.cos(x),)),
    )


def by_vmap_too() -> Function:
    def mapped(n: int, batched: Any, x: Any) -> Any:
        assert batched == [True]
        return np.sin(x), True

    return vk.custom_rule(
        lambda x: np.sin(x),
        jvp=lambda primals, ts: (np.sin(primals[0]), 3.0 * ts[0] * np.cos(primals[0])),
        vmap=mapped,
    )


def by_linear_rule() -> Function:
    """3 x, of which only the transpose is known, after sin(x) / 3 with the right derivative."""
    triple = vk.custom_rule(lambda x: 3.0 * x, transpose=lambda ct: (9.0 * ct,))
    return lambda x: triple(np.sin(x) / 3.0)  # d = 9 cos(x) / 3 in reverse mode


MADE = {f.__name__: f for f in (by_vjp, by_symbolic_vjp, by_jvp, by_defjvps, by_both, by_vmap_too)}

TRANSFORMS: dict[str, Function] = {
    "grad": lambda f: vk.grad(f),
    "value_and_grad": lambda f: lambda x: vk.value_and_grad(f)(x)[1],
    "vjp": lambda f: lambda x: vk.vjp(f, x)[1](1.0)[0],
    "jvp": lambda f: lambda x: vk.jvp(f, (x,), (1.0,))[1],
    "linearize": lambda f: lambda x: vk.linearize(f, x)[1](1.0),
    "jacfwd": lambda f: vk.jacfwd(f),
}
KEEPERS: dict[str, Function] = {
    "jit": lambda f: vk.jit(f),
    "vmap": lambda f: lambda x: vk.vmap(f)(np.stack([x, x]))[1],
    "vmap of constants": lambda f: lambda x: vk.vmap(lambda _: f(x))(np.zeros(3))[1],
    "checkpoint": lambda f: vk.checkpoint(f),
    "checkpoint with a policy": lambda f: vk.checkpoint(
        f, policy=vk.checkpoint_policies.everything_saveable
    ),
    "custom": lambda f: _wrapped(f),
}


def _wrapped(f: Function) -> Function:
    g = vk.custom_vjp(f)
    g.defvjp(
        lambda x: vk.vjp(f, x), lambda pull, ct: pull(ct)
    )  # a linear map is a tree, so it may be a residual
    return g


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("outer", TRANSFORMS)
@pytest.mark.parametrize("inner", TRANSFORMS)
def test_second_derivatives_go_through_the_rule(made: str, outer: str, inner: str) -> None:
    f = MADE[made]()
    x = 0.3
    first = TRANSFORMS[inner](f)
    assert first(x) == pytest.approx(3 * np.cos(x), rel=1e-14)
    second = TRANSFORMS[outer](first)
    assert second(x) == pytest.approx(-3 * np.sin(x), rel=1e-13)  # the rule is differentiated


@pytest.mark.parametrize("made", ["by_vjp", "by_jvp", "by_vmap_too"])
@pytest.mark.parametrize(("a", "c"), list(itertools.product(KEEPERS, KEEPERS)))
def test_the_rule_counts_in_every_nesting(made: str, a: str, c: str) -> None:
    f = MADE[made]()
    for transform in TRANSFORMS.values():
        g = KEEPERS[a](transform(KEEPERS[c](f)))
        assert g(np.float64(0.3)) == pytest.approx(3 * np.cos(0.3), rel=1e-13)


@given(
    made=st.sampled_from(sorted(MADE)),
    order=st.lists(st.sampled_from(sorted([*TRANSFORMS, *KEEPERS])), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_random_compositions(made: str, order: list[str]) -> None:
    g = MADE[made]()
    derivatives = 0
    for name in order:
        derivatives += name in TRANSFORMS
        g = {**TRANSFORMS, **KEEPERS}[name](g)
    factor = 1.0 if derivatives == 0 else 3.0
    d = (np.sin, np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin)[derivatives]
    assert g(np.float64(0.3)) == pytest.approx(factor * d(0.3), rel=1e-12)


def test_a_transpose_alone_gives_both_modes_in_the_linear_argument() -> None:
    f = by_linear_rule()
    assert vk.grad(f)(0.3) == pytest.approx(3 * np.cos(0.3), rel=1e-14)
    assert vk.jvp(f, (0.3,), (1.0,))[1] == pytest.approx(np.cos(0.3), rel=1e-14)
    assert vk.grad(vk.jit(f))(0.3) == pytest.approx(3 * np.cos(0.3), rel=1e-14)
    xs = np.stack([X, 2 * X])
    mapped = vk.grad(lambda x: np.sum(vk.vmap(f)(x)))(xs)
    np.testing.assert_allclose(mapped, 3 * np.cos(xs), rtol=1e-14)


def test_a_transpose_beside_arguments_that_are_not_linear() -> None:
    scaled = vk.custom_rule(lambda a, x: a * x, transpose=lambda a, ct: (a * ct,), linear_argnums=1)
    assert vk.grad(scaled, 1)(2.0, 5.0) == 2.0
    with pytest.raises(NotDifferentiableError, match="transpose rule alone"):
        vk.grad(scaled)(2.0, 5.0)
    with_jvp = vk.custom_rule(
        lambda a, x: a * x,
        jvp=lambda p, t: (p[0] * p[1], 10.0 * t[0] * p[1] + p[0] * t[1]),
        transpose=lambda a, ct: (a * ct,),
        linear_argnums=1,
    )
    assert vk.grad(with_jvp, (0, 1))(2.0, 5.0) == (50.0, 2.0)
    assert vk.hessian(with_jvp, (0, 1))(2.0, 5.0)[0][1] == 10.0


def test_a_transpose_beside_arguments_that_are_not_differentiated() -> None:
    f = vk.custom_rule(
        lambda n, a, x: n * a * x,
        transpose=lambda n, a, ct: (n * a * ct,),
        linear_argnums=2,
        nondiff_argnums=0,
    )
    for g in (f, vk.jit(f, static_argnums=0)):
        assert vk.grad(g, 2)(3.0, 2.0, 5.0) == 6.0
        assert vk.jvp(lambda x, g=g: g(3.0, 2.0, x), (5.0,), (10.0,)) == (30.0, 60.0)


def test_a_transpose_of_several_outputs_is_mapped() -> None:
    both = vk.custom_rule(
        lambda a, x: (a * x, 3.0 * x),
        transpose=lambda a, ct: (a * ct[0] + 3.0 * ct[1],),
        linear_argnums=1,
    )
    xs, a = np.arange(3.0), np.array([2.0, -1.0, 0.5])

    def total(x: Any) -> Any:
        first, second = vk.vmap(both)(a, x)
        return np.sum(first * second)

    np.testing.assert_allclose(vk.grad(total)(xs), 6.0 * a * xs, rtol=1e-15)


def test_without_derivative_rules_the_function_is_differentiated() -> None:
    calls = []

    def mapped(n: int, batched: Any, x: Any, y: Any) -> Any:
        calls.append((n, batched))
        return np.sin(x) * y, True

    f = vk.custom_rule(lambda x, y: np.sin(x) * y, vmap=mapped)
    assert vk.grad(f)(0.3, 2.0) == pytest.approx(2 * np.cos(0.3))
    np.testing.assert_allclose(vk.vmap(f, (0, None))(X, 2.0), 2 * np.sin(X))
    assert calls == [(3, [True, False])]
    g = vk.grad(lambda x: np.sum(vk.vmap(f, (0, None))(x, 2.0)))(X)
    np.testing.assert_allclose(g, 2 * np.cos(X))
    np.testing.assert_allclose(vk.jit(vk.vmap(f, (0, None)))(X, 2.0), 2 * np.sin(X))


@pytest.mark.parametrize("made", MADE)
def test_closed_over_values_of_outer_transforms(made: str) -> None:
    def outer(c: Any) -> Any:
        f = vk.custom_jvp(lambda x: np.sin(x) * c)
        f.defjvp(lambda p, t: (np.sin(p[0]) * c, 3.0 * np.cos(p[0]) * c * t[0]))
        return vk.grad(f)(0.3) * MADE[made]()(c)

    wanted = 3 * np.cos(0.3) * (np.sin(2.0) + 2 * 3 * np.cos(2.0))
    assert vk.grad(outer)(2.0) == pytest.approx(wanted, rel=1e-14)
    assert vk.grad(vk.jit(outer))(2.0) == pytest.approx(wanted, rel=1e-14)
    assert vk.jit(vk.grad(outer))(2.0) == pytest.approx(wanted, rel=1e-14)
    batch = vk.vmap(vk.grad(outer))(np.array([1.0, 2.0]))
    assert batch[1] == pytest.approx(wanted, rel=1e-14)


def test_a_staged_rule_may_close_over_staged_values() -> None:
    def program(c: Any, x: Any) -> Any:
        d = np.exp(c)
        f = vk.custom_vjp(lambda x: np.sin(x) * d)
        f.defvjp(lambda x: (np.sin(x) * d, x), lambda x, ct: (3.0 * ct * np.cos(x) * d,))
        return f(x)

    staged = vk.jit(program)
    wanted = 3 * np.cos(0.3) * np.exp(0.5)
    assert vk.grad(staged, 1)(0.5, 0.3) == pytest.approx(wanted, rel=1e-14)
    assert staged(0.5, 0.3) == pytest.approx(np.sin(0.3) * np.exp(0.5), rel=1e-15)
    with pytest.raises(ClosedTraceError, match="closes over a traced value"):
        vk.grad(staged, 0)(0.5, 0.3)


def test_symbolic_zeros_say_what_varies() -> None:
    seen: list[Any] = []

    def fwd(x: Any, y: Any) -> Any:
        seen.append((x.perturbed, y.perturbed))
        return (x.value * y.value, x.value), y.value

    def bwd(y: Any, cts: Any) -> Any:
        seen.append(tuple(type(ct).__name__ for ct in cts))
        assert cts[1].shape == ()
        return (cts[0] * y, None)

    f = vk.custom_vjp(lambda x, y: (x * y, x))
    f.defvjp(fwd, bwd, symbolic_zeros=True)
    assert vk.grad(lambda x: f(x, 2.0)[0])(3.0) == 2.0
    assert seen == [(True, False), ("float64", "SymbolicZero")]

    g = vk.custom_jvp(lambda x, y: x * y)

    def rule(primals: Any, ts: Any) -> Any:
        seen.append(tuple(type(t).__name__ for t in ts))
        return primals[0] * primals[1], ts[0] * primals[1]

    g.defjvp(rule, symbolic_zeros=True)
    seen.clear()
    assert vk.grad(g)(3.0, 2.0) == 2.0
    assert seen[0][1] == "SymbolicZero"


def test_nondiff_arguments_by_name_and_functions() -> None:
    def apply(f: Any, x: Any, n: int = 1) -> Any:
        return f(x) ** n

    g = vk.custom_vjp(apply, nondiff_argnames=("f", "n"))
    g.defvjp(
        lambda f, x, n: (f(x) ** n, x),
        lambda f, n, x, ct: (100.0 * n * ct * x,),
    )
    assert vk.grad(lambda x: g(np.sin, x))(2.0) == 200.0
    assert vk.grad(lambda x: g(np.sin, n=3, x=x))(2.0) == 600.0
    assert vk.grad(vk.jit(lambda x: g(np.sin, x, 2)))(2.0) == 400.0
    h = vk.custom_jvp(apply, nondiff_argnums=0, nondiff_argnames="n")
    h.defjvp(lambda f, n, p, t: (f(p[0]) ** n, 7.0 * n * t[0]))
    assert vk.grad(lambda x: h(np.sin, x, n=2))(2.0) == 14.0


def test_what_leaks_from_a_mapped_rule_is_closed() -> None:
    leaked = []

    @vk.custom_jvp
    def f(x: Any) -> Any:
        leaked.append(x)
        return np.sin(x)

    f.defjvp(lambda primals, tangents: (f(*primals), np.cos(primals[0]) * tangents[0]))
    vk.vmap(f)(np.arange(3.0))
    with pytest.raises(ClosedTraceError, match="vmap"):
        np.sin(leaked[-1])


def test_an_output_that_all_examples_share() -> None:
    @vk.custom_vjp
    def f(x: Any, y: Any) -> Any:
        return 2.0 * x, x * y

    f.defvjp(
        lambda x, y: ((2.0 * x, x * y), (x, y)),
        lambda r, ct: (2.0 * ct[0] + ct[1] * r[1], ct[1] * r[0]),
    )
    ys = np.array([0.5, -1.0, 2.0])
    over = vk.vmap(f, in_axes=(None, 0))
    got = vk.grad(lambda x: np.sum(over(x, ys)[0] ** 2) + np.sum(over(x, ys)[1]))(1.5)
    assert got == 3 * 8.0 * 1.5 + np.sum(ys)


def test_a_cotangent_that_all_examples_share() -> None:
    """As if the rule had been called for each: the weights get the sum."""
    f = vk.custom_vjp(lambda w, x, y: np.sin(x) + 0.0 * (y + np.sum(w)))
    f.defvjp(
        lambda w, x, y: (f(w, x, y), x),
        lambda x, ct: (np.full(2, 0.5), np.cos(x) * ct, np.zeros(())),
    )
    xs, w = np.arange(3.0), np.ones(2)
    over = vk.vmap(f, in_axes=(None, 0, 0))
    got = vk.grad(lambda w, x, y: np.sum(over(w, x, y)), (0, 1, 2))(w, xs, xs)
    for a, b in zip(got, (np.full(2, 1.5), np.cos(xs), np.zeros(3)), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-15)


def test_zero_tangents_are_zeros_in_programs_too() -> None:
    f = vk.custom_jvp(lambda x, y: (x * y, np.sin(x)))
    f.defjvp(lambda primals, ts: (f(*primals), (2.0 * ts[0] + 5.0 * ts[1], None)))
    for g in (f, vk.jit(f)):
        push = lambda x: vk.jvp(lambda x: g(x, 0.7), (x,), (1.0,))[1]  # noqa: B023
        for h in (push, vk.jit(push), vk.jit(vk.jit(push))):
            assert h(0.3) == (2.0, 0.0)


def test_which_rule_is_used_where_several_are_given() -> None:
    """Forward mode takes the forward rule as it is, unless the function is linear there."""
    bent = vk.custom_jvp(lambda x: x)
    bent.defjvp(lambda primals, ts: (primals[0], np.abs(ts[0])))
    assert vk.jvp(bent, (1.0,), (-2.0,)) == (1.0, 2.0)
    f = vk.custom_rule(
        lambda x, y: 2.0 * x * y,
        jvp=lambda p, ts: (2.0 * p[0] * p[1], 5.0 * ts[0] + 7.0 * ts[1]),
        transpose=lambda y, ct: (3.0 * ct,),
        linear_argnums=0,
    )
    assert vk.jvp(lambda x: f(x, 1.0), (1.0,), (1.0,))[1] == 2.0  # the function itself
    assert vk.jvp(lambda y: f(1.0, y), (1.0,), (1.0,))[1] == 7.0
    assert vk.grad(f, 0)(1.0, 1.0) == 3.0
    assert vk.grad(f, 1)(1.0, 1.0) == 7.0
    assert vk.grad(f, (0, 1))(1.0, 1.0) == (5.0, 7.0)


def test_a_view_of_what_was_written_to_is_staged() -> None:
    f = by_vjp()

    def within(x: Any) -> Any:
        y = vnp.zeros(3)
        view = y[:2]
        y[0] = x
        return f(view)

    program = vk.make_ir(within)(0.5).program
    assert [eqn.primitive.name for eqn in program.equations][-1] == "custom_call"


def test_residuals_are_any_tree() -> None:
    f = vk.custom_vjp(lambda x: np.sin(x))
    f.defvjp(
        lambda x: (np.sin(x), {"kind": "sine", "x": x, "n": 3, "call": np.cos, "none": None}),
        lambda r, ct: (r["n"] * ct * r["call"](r["x"]),),
    )
    for g in (f, vk.jit(f), vk.vmap(f), vk.jit(vk.vmap(f)), vk.vmap(vk.jit(f))):
        np.testing.assert_allclose(vk.grad(lambda x: np.sum(g(x)))(X), 3 * np.cos(X))  # noqa: B023


def test_residuals_are_named_and_guarded() -> None:
    f = vk.custom_vjp(lambda x: np.sin(x))
    f.defvjp(lambda x: (np.sin(x), {"n": 3, "x": x}), lambda r, ct: (ct * np.cos(r["x"]),))
    x = np.linspace(0.0, 1.0, 50_000)
    pullback = vk.vjp(lambda x: f(x), x)[1]
    (kept,) = [r for r in pullback.residuals if "custom_vjp" in r.name]
    assert kept.shape == x.shape
    x[0] = 5.0
    with pytest.raises(RuntimeError, match="changed"):
        pullback(np.ones_like(x))


def test_residuals_that_are_no_operands_are_guarded() -> None:
    table, x = np.ones(50_000), np.ones(50_000)  # too large to be copied
    f = vk.custom_vjp(lambda x: np.sin(x))
    f.defvjp(lambda x: (np.sin(x), table), lambda r, ct: (ct * r,))
    pullback = vk.vjp(lambda x: f(x), x)[1]
    table[0] = 5.0
    with pytest.raises(RuntimeError, match="changed"):
        pullback(x)


def test_residuals_of_a_forward_rule_are_those_of_what_it_computes() -> None:
    (kept,) = vk.linearize(by_jvp(), X)[1].residuals
    np.testing.assert_array_equal(kept.value, np.cos(X))


@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit])
def test_results_that_are_integers_come_between_others(wrap: Function) -> None:
    run = lambda x: (7, 2.0 * x, x > 0, x * x)
    by_jvp, by_vjp = vk.custom_jvp(run), vk.custom_vjp(run)
    by_jvp.defjvp(lambda xs, ts: (run(xs[0]), (None, 5.0 * ts[0], None, 3.0 * ts[0])))
    by_vjp.defvjp(lambda x: (run(x), None), lambda _, cts: (5.0 * cts[1] + 3.0 * cts[3],))
    for f in (by_jvp, by_vjp):
        assert vk.jvp(lambda x, f=f: wrap(f)(x)[1::2], (1.5,), (1.0,))[1] == (5.0, 3.0)
        assert vk.grad(lambda x, f=f: wrap(f)(x)[1] + 10.0 * wrap(f)(x)[3])(1.5) == 35.0


@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit])
def test_transpose_rules_of_several_arguments_and_results(wrap: Function) -> None:
    """Also where some are not differentiated, and some cannot be."""
    f = vk.custom_rule(
        lambda x, y: (2.0 * x - 3.0 * y, 7, x),
        transpose=lambda cts: (2.0 * cts[0] + cts[2], -3.0 * cts[0]),
        linear_argnums=(0, 1),
    )
    first, last = lambda x: wrap(f)(x, 1.0)[0], lambda y: wrap(f)(1.0, y)[0]
    assert vk.jvp(first, (1.0,), (1.0,)) == (-1.0, 2.0)
    assert vk.jvp(last, (1.0,), (1.0,)) == (-1.0, -3.0)
    assert vk.linearize(last, 1.0)[1](2.0) == -6.0
    both = lambda x, y: wrap(f)(x, y)[0] + 5.0 * wrap(f)(x, y)[2]
    assert vk.grad(both, (0, 1))(1.0, 1.0) == (7.0, -3.0)


def test_what_a_transpose_rule_keeps_is_guarded() -> None:
    f = vk.custom_rule(lambda a, x: a * x, transpose=lambda a, ct: (a * ct,), linear_argnums=1)
    a, x = np.ones(50_000), np.ones(50_000)
    linear = vk.linearize(lambda x: f(a, x), x)[1]
    a[0] = 5.0
    for way in (linear, linear.T):
        with pytest.raises(RuntimeError, match="changed"):
            way(x)


def test_no_cotangent_is_a_zero_in_forward_mode_too() -> None:
    f = vk.custom_vjp(lambda x, y: x * y)
    f.defvjp(lambda x, y: (x * y, y), lambda y, ct: (3.0 * ct * y, None))
    for g in (f, vk.jit(f), vk.vmap(f)):
        got = vk.jvp(g, (X, X), (np.ones(3), np.ones(3)))[1]
        np.testing.assert_allclose(got, 3.0 * X)


def test_shared_and_batched_arguments() -> None:
    f = vk.custom_vjp(lambda w, x: w @ x)
    f.defvjp(
        lambda w, x: (w @ x, (w, x)),
        lambda r, ct: (2.0 * ct * r[1], 2.0 * ct * r[0]),
    )
    w, xs = X, np.arange(6.0).reshape(2, 3)
    for g in (f, vk.jit(f)):
        gw, gx = vk.grad(lambda w, x: np.sum(vk.vmap(g, (None, 0))(w, x)), (0, 1))(w, xs)  # noqa: B023
        np.testing.assert_allclose(gw, 2 * xs.sum(axis=0))
        np.testing.assert_allclose(gx, 2 * np.stack([w, w]))


def test_exceptions_in_rules_leave_nothing_behind() -> None:
    f = vk.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, None), lambda r, ct: (_ for _ in ()).throw(KeyError("mine")))
    with pytest.raises(KeyError, match="mine"):
        vk.grad(f)(1.0)
    assert vk.grad(lambda x: x * x)(3.0) == 6.0


def test_rules_that_cannot_be_staged_are_missed_only_where_needed() -> None:
    f = vk.custom_vjp(lambda x: np.sin(x))
    f.defvjp(lambda x: (float(x), None), lambda r, ct: (ct,))
    assert vk.jit(f)(0.3) == np.sin(0.3)
    with pytest.raises(NotDifferentiableError, match="could not be staged"):
        vk.grad(vk.jit(f))(0.3)


def test_programs_with_rules_print_and_read_back() -> None:
    for made in (by_vjp, by_both):
        program = vk.make_ir(made())(X).program
        assert vk.parse_ir(str(program)) == program


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: vk.custom_vjp(np.sin).defvjp(np.sin, np.cos, optimize_remat=True), TypeError,
         "optimize_remat is not supported"),
        (lambda: vk.custom_rule(np.sin, vjp=WRONG), TypeError, "vjp must be a pair"),
        (lambda: vk.custom_rule(np.sin, linear_argnums=0), TypeError, "no transpose"),
        (lambda: vk.custom_rule(np.add, transpose=np.sin, linear_argnums=0, nondiff_argnums=0),
         TypeError, r"nondiff_argnums=\(0,\)"),
        (lambda: vk.custom_vjp(lambda x, y: x)(1.0, 2.0, y=3.0), TypeError, "multiple values"),
        (lambda: vk.custom_vjp(lambda x: x, nondiff_argnames="y"), ValueError, "names 'y'"),
        (lambda: vk.custom_jvp(lambda x: x, nondiff_argnums=0).defjvps(None), TypeError,
         "not for functions with nondiff_argnums"),
    ],
)  # fmt: skip
def test_bad_calls(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("made", ["vjp", "jvp", "transpose"])
def test_rules_that_close_over_arrays_are_staged_mapped_and_staged_again(made: str) -> None:
    """The arrays become operands each time, and the cotangents go to the arguments."""
    w, u = np.array([2.0, -1.0, 0.5]), np.array([1.0, 3.0, -2.0])
    if made == "vjp":
        f = vk.custom_vjp(lambda x: w * x)
        f.defvjp(lambda x: (w * x, u * 1.0), lambda kept, ct: (kept * w * ct,))
    elif made == "jvp":
        f = vk.custom_rule(lambda x: w * x, jvp=lambda xs, ts: (w * xs[0], u * w * ts[0]))
    else:
        f = vk.custom_rule(lambda x: u * w * x, transpose=lambda ct: (u * w * ct,))
    batch = np.stack([X, 2.0 * X])
    for keep in (
        lambda f: vk.vmap(vk.jit(f)),
        lambda f: vk.jit(vk.vmap(vk.jit(f))),
        lambda f: vk.jit(vk.vmap(vk.jit(vk.checkpoint(f)))),
    ):
        gradient = vk.grad(lambda x, k=keep: np.sum(k(f)(x)))(batch)
        np.testing.assert_allclose(gradient, np.stack([u * w] * 2))
        tangent = vk.jvp(keep(f), (batch,), (batch,))[1]
        np.testing.assert_allclose(tangent, u * w * batch)


def of_itself(kind: str, w: Any) -> Function:
    """w sin(x) with rules that call the function they belong to: cos(x) is sin(x + pi / 2)."""
    quarter, one = np.pi / 2, np.ones(())
    f: Any = vk.custom_vjp(lambda x: w * np.sin(x) * one)
    if kind in ("bwd", "fwd and bwd"):
        value = f if kind == "fwd and bwd" else lambda x: w * np.sin(x)
        f.defvjp(lambda x: (value(x), x), lambda x, ct: (ct * f(x + quarter),))
    else:
        f = vk.custom_jvp(lambda x: w * np.sin(x) * one)
        f.defjvp(lambda xs, ts: (w * np.sin(xs[0]), ts[0] * f(xs[0] + quarter)))
    return f


@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit])
@pytest.mark.parametrize("kind", ["bwd", "fwd and bwd", "jvp"])
def test_rules_that_call_their_own_function(kind: str, wrap: Function) -> None:
    w = np.array([2.0, -1.0, 0.5])
    reverse = forward = wrap(of_itself(kind, w))
    for want in (np.cos(X), -np.sin(X), -np.cos(X)):
        reverse = vk.grad(lambda x, f=reverse: np.sum(f(x)))
        forward = lambda x, f=forward: vk.jvp(f, (x,), (np.ones(3),))[1]
        for got in (reverse(X), forward(X), vk.vmap(forward)(np.stack([X, X]))[1]):
            np.testing.assert_allclose(got, w * want, rtol=1e-13)


@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit])
def test_a_transpose_rule_that_calls_its_own_function(wrap: Function) -> None:
    w, one = np.array([2.0, -1.0, 0.5]), np.ones(3)
    f = vk.custom_rule(lambda x: w * x * one, transpose=lambda ct: (f(ct),))
    pulled = lambda x: vk.vjp(wrap(f), x)[1](x)[0]
    np.testing.assert_array_equal(pulled(X), w * X)
    twice = vk.vjp(pulled, X)[1]
    np.testing.assert_array_equal(twice(X)[0], w * X)
    np.testing.assert_array_equal(twice.T(X), w * X)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["bwd", "fwd and bwd", "jvp"])
def test_what_a_call_of_its_own_function_closes_over_has_no_derivative(
    kind: str, order: int
) -> None:
    def gradient(w: Any) -> Any:
        f = vk.jit(vk.grad(of_itself(kind, w)))
        for _ in range(order):
            f = vk.jit(vk.grad(f))
        return f(0.3)

    with pytest.raises(ClosedTraceError, match="closes over a traced value"):
        vk.grad(gradient)(2.0)


def test_tangents_of_numbers_are_no_numbers_in_programs() -> None:
    f = vk.custom_jvp(lambda x: 2.0 * x)
    f.defjvp(lambda xs, ts: (2.0 * xs[0], ts[0] * np.float32(2.0)))
    for g in (f, vk.jit(f), vk.jit(vk.jit(f))):
        for got in (vk.grad(g)(0.5), vk.jvp(g, (0.5,), (1.0,))[1]):
            assert (got, got.dtype) == (2.0, np.float64)
        (tangent,) = vk.make_ir(lambda x, g=g: vk.jvp(g, (x,), (1.0,))[1])(0.5).program.out_avals
        assert tangent.dtype == np.float64


def test_the_rule_for_batches_counts_in_programs_too() -> None:
    def mapped(n: int, batched: Any, x: Any, y: Any) -> Any:
        assert (n, batched) == (3, [True, False])
        return (5.0 * np.sin(x) * y, np.ones(2)), (True, False)

    f = vk.custom_rule(
        lambda x, y: (np.sin(x) * y, np.zeros(2)),
        jvp=lambda xs, ts: (f(*xs), (ts[0], np.zeros(2))),
        vmap=mapped,
    )
    for g in (f, vk.jit(f)):
        over = vk.vmap(g, (0, None))
        for h in (over, vk.jit(over)):
            first, second = h(X, 2.0)
            np.testing.assert_allclose(first, 10.0 * np.sin(X))
            np.testing.assert_array_equal(second, np.ones((3, 2)))


def test_a_rule_for_batches_does_not_know_of_what_it_closes_over() -> None:
    """Where that differs between examples, the function is mapped itself."""

    def outer(w: Any, x: Any) -> Any:
        f = vk.custom_rule(
            lambda x: (w * np.sin(x), np.ones(2)),
            jvp=lambda xs, ts: (f(*xs), (ts[0], np.zeros(2))),
            vmap=lambda n, batched, x: (x, x),
        )
        return vk.jit(f)(x)

    first, second = vk.vmap(outer)(X, 2.0 * X)
    np.testing.assert_allclose(first, X * np.sin(2.0 * X))
    np.testing.assert_array_equal(second, np.ones((3, 2)))
