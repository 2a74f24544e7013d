"""`custom_vjp`, `custom_jvp` and `checkpoint`: JAX's spelling, under every other transform."""

from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.core.errors import ClosedTraceError, NotLinearError
from vjpkit.core.tracer import Tracer
from vjpkit.pytree import flatten

X = np.array([0.1, 0.2, 0.3])
Y = np.array([1.0, 2.0, 3.0])


def plain(x: Any, y: Any) -> Any:
    return np.sin(x) * y


def with_vjp() -> Any:
    f = vk.custom_vjp(plain)
    f.defvjp(
        lambda x, y: (np.sin(x) * y, (x, y)),
        lambda r, ct: (ct * np.cos(r[0]) * r[1], ct * np.sin(r[0])),
    )
    return f


def with_jvp() -> Any:
    f = vk.custom_jvp(plain)

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (x, y), (tx, ty) = primals, tangents
        return f(x, y), np.cos(x) * y * tx + np.sin(x) * ty

    return f


MADE = {"vjp": with_vjp, "jvp": with_jvp, "checkpoint": lambda: vk.checkpoint(plain)}


@pytest.fixture(params=MADE)
def f(request: pytest.FixtureRequest) -> Any:
    return MADE[request.param]()


def total(f: Any) -> Any:
    return lambda x, y: np.sum(f(x, y) * x)


def test_values_and_first_derivatives(f: Any) -> None:
    np.testing.assert_array_equal(f(X, Y), plain(X, Y))
    for n in (0, 1, (0, 1)):
        wanted = vk.grad(total(plain), n)(X, Y)
        np.testing.assert_allclose(vk.grad(total(f), n)(X, Y), wanted, rtol=1e-14)
    pairs = zip(vk.jvp(total(f), (X, Y), (Y, X)), vk.jvp(total(plain), (X, Y), (Y, X)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_second_and_third_order(f: Any) -> None:
    for transform in (
        vk.hessian,
        lambda g: vk.jacrev(vk.jacrev(g)),
        lambda g: vk.jacfwd(vk.jacfwd(g)),
    ):
        wanted = transform(total(plain))(X, Y)
        np.testing.assert_allclose(transform(total(f))(X, Y), wanted, rtol=1e-13, atol=1e-14)
    third = vk.grad(vk.grad(vk.grad(lambda x: f(x, 2.0))))(0.3)
    assert third == pytest.approx(-2 * np.cos(0.3), rel=1e-13)


def test_batched_and_staged(f: Any) -> None:
    xs = np.stack([X, 2 * X])
    np.testing.assert_allclose(vk.vmap(f, (0, None))(xs, Y), np.sin(xs) * Y, rtol=1e-15)
    gradients = vk.vmap(vk.grad(total(f)), (0, None))(xs, Y)
    wanted = np.stack([vk.grad(total(plain))(x, Y) for x in xs])
    np.testing.assert_allclose(gradients, wanted, rtol=1e-14)
    of_batched = vk.grad(lambda x: np.sum(vk.vmap(f, (0, None))(x, Y) * x))(xs)
    np.testing.assert_allclose(of_batched, wanted, rtol=1e-14)
    closed = vk.make_ir(vk.grad(total(f)))(X, Y)
    np.testing.assert_allclose(closed(X, Y)[0], vk.grad(total(plain))(X, Y), rtol=1e-14)


def test_pullbacks_print_compile_and_transpose(f: Any) -> None:
    _, pullback = vk.vjp(f, X, Y)
    np.testing.assert_allclose(pullback(X)[0], X * np.cos(X) * Y, rtol=1e-14)
    np.testing.assert_allclose(pullback.T(X, Y), X * np.cos(X) * Y + Y * np.sin(X), rtol=1e-14)


def test_the_rule_is_what_counts() -> None:
    f = vk.custom_vjp(lambda x: np.sin(x))
    f.defvjp(lambda x: (np.sin(x), None), lambda _, ct: (100.0 * ct,))
    assert vk.grad(f)(0.5) == 100.0
    assert vk.jvp(f, (0.5,), (2.0,))[1] == 200.0


def test_rules_run_on_concrete_arrays() -> None:
    seen: list[type] = []

    def fwd(x: Any) -> Any:
        seen.append(type(x))
        return float(x) ** 2, x

    def bwd(x: Any, ct: Any) -> Any:
        seen.append(type(ct))
        return (ct * 2 * float(x),)

    f = vk.custom_vjp(lambda x: x * x)
    f.defvjp(fwd, bwd)
    assert vk.grad(f)(np.float64(3.0)) == 6.0
    assert not any(issubclass(t, Tracer) for t in seen)


def test_trees_none_and_nondiff_arguments() -> None:
    def loss(kind: str, p: Any, n: Any) -> Any:
        return {"v": p["w"] ** 2 * n, "kind": 1}

    f = vk.custom_vjp(loss, nondiff_argnums=(0,))

    def bwd(kind: str, r: Any, ct: Any) -> Any:
        assert kind == "square"
        return {"w": 2 * r["w"] * ct["v"] * 3, "b": None}, None

    f.defvjp(lambda kind, p, n: (loss(kind, p, n), p), bwd)
    g = vk.grad(lambda p: f("square", p, 3)["v"])({"w": 2.0, "b": 1.0})
    assert g == {"w": 12.0, "b": 0.0}


def test_keywords_and_defaults_become_positional() -> None:
    def scaled(x: Any, scale: Any = 2.0) -> Any:
        return x * scale

    f = vk.custom_vjp(scaled)
    f.defvjp(lambda x, s: (x * s, (x, s)), lambda r, ct: (ct * r[1], ct * r[0]))
    assert vk.grad(f)(3.0) == 2.0
    assert vk.grad(lambda x: f(x, scale=5.0))(3.0) == 5.0


def test_defjvps() -> None:
    f = vk.custom_jvp(lambda x, y: x * y)
    f.defjvps(lambda t, out, x, y: t * y, None)
    assert vk.grad(f, (0, 1))(2.0, 3.0) == (3.0, 0.0)


def test_bwd_may_return_what_it_keeps() -> None:
    kept = np.ones(3)
    f = vk.custom_vjp(lambda x: np.sum(x))
    f.defvjp(lambda x: (np.sum(x), kept), lambda r, ct: (r,))
    g = vk.grad(f)(X)
    g[:] = 7.0
    np.testing.assert_array_equal(kept, np.ones(3))


@pytest.mark.parametrize(
    ("bwd", "error", "words"),
    [
        (lambda r, ct: ct, TypeError, "bwd must return a tuple of 1 cotangent"),
        (lambda r, ct: (ct, ct), TypeError, "one per differentiable argument, got 2"),
        (lambda r, ct: ([ct],), TypeError, "bwd returned the tree"),
        (
            lambda r, ct: (np.ones(2),),
            ValueError,
            r"bwd returned a cotangent at \[0\] of shape \(2,\), but \(3,\)",
        ),
        (lambda r, ct: ("a",), TypeError, r"a cotangent at \[0\] of dtype <U1, but f64\[3\] is"),
    ],
)
def test_wrong_cotangents_are_refused(bwd: Any, error: Any, words: str) -> None:
    f = vk.custom_vjp(lambda x: np.sum(x))
    f.defvjp(lambda x: (np.sum(x), None), bwd)
    with pytest.raises(error, match=words):
        vk.grad(f)(X)


def test_a_missing_rule_and_a_wrong_fwd() -> None:
    f = vk.custom_vjp(lambda x: x)
    with pytest.raises(TypeError, match=r"no rule is defined yet; call <lambda>.defvjp"):
        vk.grad(f)(1.0)
    f.defvjp(lambda x: x, lambda r, ct: (ct,))
    with pytest.raises(TypeError, match="fwd must return a pair"):
        vk.grad(f)(1.0)
    g = vk.custom_jvp(lambda x: x)
    with pytest.raises(TypeError, match="no rule is defined yet"):
        vk.grad(g)(1.0)


def test_closing_over_a_traced_value_is_an_error_not_a_lost_gradient() -> None:
    def outer(c: Any) -> Any:
        f = vk.custom_jvp(lambda x: x * c)
        f.defjvp(lambda primals, ts: (primals[0] * c, ts[0] * c))
        return f(c)

    for transform in (vk.grad, lambda f: vk.grad(vk.jit(f)), vk.jacfwd):
        with pytest.raises(RuntimeError, match="closes over a traced value"):
            transform(outer)(2.0)


def test_closing_over_a_value_of_an_outer_transform_is_fine() -> None:
    def outer(c: Any) -> Any:
        f = vk.custom_vjp(lambda x: x * c)
        f.defvjp(lambda x: (x * c, None), lambda _, ct: (ct * c,))
        return vk.grad(f)(3.0) * c

    assert vk.grad(outer)(2.0) == 4.0


def test_checkpoint_keeps_only_the_arguments() -> None:
    def deep(x: Any) -> Any:
        for _ in range(20):
            x = np.sin(x) * 1.1
        return x

    x = np.linspace(0.1, 1.0, 1000)
    _, whole = vk.vjp(deep, x)
    _, light = vk.vjp(vk.checkpoint(deep), x)
    assert whole.nbytes >= 20 * x.nbytes
    assert light.nbytes == x.nbytes
    np.testing.assert_array_equal(light(x)[0], whole(x)[0])


@pytest.mark.parametrize("options", [{}, {"checkpoint": "revolve", "slots": 2}], ids=["", "slots"])
@pytest.mark.parametrize("keeper", [lambda f: f, vk.jit, vk.vmap], ids=["eager", "jit", "vmap"])
def test_a_rule_may_push_through_any_loop(keeper, options):
    """What a loop computes beside tangents does not depend on them, and has no derivative there."""

    def counted(x):
        body = lambda p: (p[0] + 1, np.cos(p[1]) * x + p[1])
        return vk.lax.while_loop(lambda p: p[0] < 3, body, (0, x), **options)[1]

    def scanned(x):
        step = lambda c, v: (np.sin(c) * x + v, c * v)
        c, ys = vk.lax.scan(step, x, np.arange(3.0), **options)
        return c + np.sum(ys)

    def curvature(f):
        slope = vk.grad(lambda x: np.sum(keeper(f)(x)))
        return vk.grad(lambda x: np.sum(slope(x)))(np.array([0.3, 0.8]))

    for f in (counted, scanned, vk.checkpoint(lambda x: np.sin(x) * x)):
        ruled = vk.custom_jvp(f)
        ruled.defjvp(lambda primals, ts, f=f: vk.jvp(f, primals, ts))
        np.testing.assert_allclose(curvature(ruled), curvature(f), rtol=1e-12)


def scaled_by(z: Any) -> dict[str, Any]:
    """x z with its derivative in x by rules that close over z, and by z as what has none."""
    by_jvp = vk.custom_jvp(lambda x: x * z)
    by_jvp.defjvp(lambda primals, ts: (primals[0] * z, ts[0] * z))
    by_vjp = vk.custom_vjp(lambda x: x * z)
    by_vjp.defvjp(lambda x: (x * z, None), lambda _, ct: (ct * z,))
    apart = vk.custom_jvp(lambda scale, x: x * scale, nondiff_argnums=0)
    apart.defjvp(lambda scale, primals, ts: (primals[0] * scale, ts[0] * scale))
    return {
        "jvp": by_jvp,
        "vjp": by_vjp,
        "transpose": vk.custom_rule(lambda x: x * z, transpose=lambda ct: (ct * z,)),
        "nondiff": lambda x: apart(z, x),
    }


RULED = ("jvp", "vjp", "transpose", "nondiff")
ONE = np.array(1.0)


@pytest.mark.parametrize("kind", RULED)
def test_no_derivative_in_what_rules_close_over(kind: str) -> None:
    """In forward mode too, where the value and its tangent would be lost."""

    def f(z: Any) -> Any:
        return scaled_by(z)[kind](z)

    derivatives = [
        lambda: vk.jvp(f, (2.0,), (1.0,)),
        lambda: vk.jit(lambda z: vk.jvp(f, (z,), (ONE,)))(ONE),
        lambda: vk.jet(f, (2.0,), ([1.0, 0.0],)),
        lambda: vk.laplacian(f)(2.0),
        lambda: vk.grad(f)(2.0),
        lambda: vk.grad(lambda z: np.sum(vk.vmap(f)(z)))(np.ones(2)),
        lambda: vk.jvp(lambda z: vk.lax.scan(lambda c, _: (scaled_by(z)[kind](c), None), z,
                                             length=2)[0], (2.0,), (1.0,)),
    ]  # fmt: skip
    for derivative in derivatives:
        with pytest.raises(RuntimeError, match=r"closes over a traced value.*test_custom.py"):
            derivative()


def doubled_by_rules(z: Any) -> dict[str, Any]:
    """2 x, by functions that close over nothing and rules that close over z."""
    by_jvp, by_jvps = vk.custom_jvp(lambda x: 2.0 * x), vk.custom_jvp(lambda x: 2.0 * x)
    by_jvp.defjvp(lambda primals, ts: (2.0 * primals[0], ts[0] * z))
    by_jvps.defjvps(lambda t, out, x: t * z)
    by_bwd = vk.custom_vjp(lambda x: 2.0 * x)
    by_bwd.defvjp(lambda x: (2.0 * x, None), lambda _, ct: (ct * z,))
    return {
        "custom_jvp": by_jvp,
        "custom_jvp, one by one": by_jvps,
        "custom_vjp": by_bwd,
        "custom_rule": vk.custom_rule(
            lambda x: 2.0 * x, jvp=lambda primals, ts: (2.0 * primals[0], ts[0] * z)
        ),
        "custom_rule, transposed": vk.custom_rule(
            lambda x: 2.0 * x, transpose=lambda ct: (ct * z,)
        ),
    }


@pytest.mark.parametrize("name", doubled_by_rules(0.0))
def test_rules_alone_that_close_over_what_is_differentiated_are_named(name: str) -> None:
    """When they are asked the transform has ended, and that would be no help."""

    def f(z: Any) -> Any:
        return doubled_by_rules(z)[name](z * z)

    said = rf"{name.split(',')[0]}\(<lambda>\) closes over a traced value.*test_custom"
    derivatives = [
        lambda: vk.grad(f)(2.0),
        lambda: vk.vjp(f, 2.0)[1](1.0),
        lambda: vk.linearize(f, 2.0)[1].T(1.0),
        lambda: vk.vmap(vk.grad(f))(np.ones(2)),
        lambda: vk.jit(vk.grad(f))(2.0),
        lambda: vk.grad(vk.jit(f))(2.0),
        lambda: vk.jacfwd(vk.grad(f))(2.0),
    ]
    for derivative in derivatives:
        with pytest.raises(ClosedTraceError, match=rf"{said}[\s\S]*as an argument") as caught:
            derivative()
        assert ".." not in str(caught.value)
    outer = vk.grad(lambda z: vk.grad(doubled_by_rules(z)[name])(0.5))(2.0)
    assert outer == 1.0  # which is another transform's


def test_a_tangent_rule_alone_may_not_close_over_what_is_pushed() -> None:
    def f(z: Any) -> Any:
        g = vk.custom_jvp(lambda x: x * x)
        g.defjvp(lambda primals, ts: (primals[0] ** 2, ts[0] * z))
        return g(z)

    for push in (lambda: vk.jvp(f, (2.0,), (1.0,)), lambda: vk.jet(f, (2.0,), ([1.0],))):
        with pytest.raises(RuntimeError, match="closes over a traced value"):
            push()


@pytest.mark.parametrize("kind", RULED)
@pytest.mark.parametrize("wrap", [lambda f: f, vk.jit], ids=["eager", "jit"])
def test_rules_may_close_over_an_example(kind: str, wrap: Any) -> None:
    zs, xs = np.array([2.0, 3.0]), np.array([5.0, 7.0])
    f = lambda z, x: scaled_by(z)[kind](x)
    mapped = wrap(vk.vmap(f))
    np.testing.assert_array_equal(mapped(zs, xs), zs * xs)
    np.testing.assert_array_equal(wrap(vk.vmap(f, (0, None)))(zs, 5.0), zs * 5.0)
    np.testing.assert_array_equal(vk.grad(lambda x: np.sum(mapped(zs, x)))(xs), zs)
    np.testing.assert_array_equal(vk.jvp(lambda x: mapped(zs, x), (xs,), (xs,))[1], zs * xs)
    np.testing.assert_array_equal(wrap(vk.vmap(vk.grad(f, 1)))(zs, xs), zs)
    nested = wrap(vk.vmap(vk.vmap(f, (None, 0)), (0, None)))
    np.testing.assert_array_equal(nested(zs, xs), np.outer(zs, xs))


def test_without_a_rule_for_derivatives_they_are_the_functions_own_in_closures_too() -> None:
    f = lambda z: vk.custom_rule(lambda x: x * z)(z)
    assert vk.grad(f)(3.0) == 6.0
    assert vk.jvp(f, (3.0,), (1.0,)) == (9.0, 6.0)
    assert vk.jet(f, (3.0,), ([1.0, 0.0],)) == (9.0, [6.0, 1.0])
    assert vk.laplacian(f)(3.0) == 2.0
    np.testing.assert_array_equal(vk.vmap(vk.grad(f))(np.arange(3.0)), 2 * np.arange(3.0))


NONLINEAR = {
    "absolute": lambda primals, tangents: (primals[0] ** 2, np.abs(tangents[0])),
    "sin": lambda primals, tangents: (primals[0] ** 2, np.sin(tangents[0])),
    "add": lambda primals, tangents: (primals[0] ** 2, tangents[0] + 1.0),
    "multiply": lambda primals, tangents: (primals[0] ** 2, tangents[0] * tangents[0]),
    "greater": lambda primals, tangents: (
        primals[0] ** 2,
        np.where(tangents[0] > 0, tangents[0], 0.0),
    ),
}
DERIVED = {
    "grad": lambda f: vk.grad(f)(3.0),
    "jit": lambda f: vk.jit(vk.grad(f))(3.0),
    "vjp": lambda f: vk.vjp(f, 3.0),
    "linearize": lambda f: vk.linearize(f, 3.0),
    "second order": lambda f: vk.grad(vk.grad(f))(3.0),
    "mapped": lambda f: vk.vmap(vk.grad(f))(np.arange(3.0)),
}


@pytest.mark.parametrize("how", DERIVED)
@pytest.mark.parametrize("name", NONLINEAR)
def test_a_rule_that_is_not_linear_in_its_tangents_has_no_transpose(name, how):
    """At zero it has a derivative, which is another map: 0 for abs, 1 for sin."""
    f = vk.custom_jvp(lambda x: x**2)
    f.defjvp(NONLINEAR[name])
    with pytest.raises(
        NotLinearError, match=rf"not linear in the tangents: {name}   \(test_custom"
    ):
        DERIVED[how](f)


def test_rules_that_are_linear_in_their_tangents_in_a_roundabout_way():
    """Zeros added, a choice by the value, a derivative within, a loop, dtypes, products."""

    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        inner = vk.jvp(np.sin, (x,), (t,))[1]
        looped = vk.lax.fori_loop(0, 3, lambda i, s: s * 0.5 + t, np.zeros_like(t))
        chosen = np.where(x > 0, t, -t) + np.zeros(3)
        return np.sin(x), inner + 0.0 * looped + 0.0 * chosen + 0.0 * np.cumsum(t)[::-1]

    f = vk.custom_jvp(np.sin)
    f.defjvp(rule)
    x = np.array([0.3, -1.2, 2.5])
    for how in (vk.grad, lambda g: vk.jit(vk.grad(g))):
        np.testing.assert_allclose(how(lambda x: np.sum(f(x)))(x), np.cos(x))


@pytest.mark.parametrize("control", ["cond", "switch", "cond in scan"])
def test_a_branch_in_a_rule_closes_over_what_has_a_tangent_alone(control: str) -> None:
    """Its value is a plain array and its tangent is staged: that is no value of the branch's."""

    def choice(x: Any, y: Any) -> Any:
        one, other = lambda x: np.sin(x) * y, lambda x: np.sin(y) * x
        if control == "switch":
            return vk.lax.switch(np.sum(x > 0.15), [one, other, one], x)
        return vk.lax.cond(np.sum(x) > 0, other, one, x)

    def f(x: Any, y: Any) -> Any:
        if control != "cond in scan":
            return choice(x, y)
        return vk.lax.scan(lambda c, _: (choice(c, y), None), x, None, length=2)[0]

    ruled = vk.custom_jvp(f)
    ruled.defjvp(lambda primals, tangents: vk.jvp(f, primals, tangents))
    derivatives: list[Any] = [
        lambda f: vk.jit(vk.grad(lambda x: np.sum(f(x, Y) ** 2))),
        lambda f: vk.jit(vk.hessian(lambda x: np.sum(f(x, Y) ** 2))),
        lambda f: vk.jit(lambda x: vk.jvp(lambda x: f(x, Y), (x,), (Y,))),
        lambda f: vk.jit(lambda x: vk.jet(lambda x: f(x, Y), (x,), ([Y, X],))[1]),
        lambda f: lambda x: vk.jit(lambda x: vk.linearize(lambda x: f(x, Y), x)[1])(x).T(Y),
        lambda f: vk.jit(
            vk.vmap(vk.grad(lambda x: np.sum(f(x, X) * x)), axis_size=3, in_axes=None)
        ),
    ]
    for derivative in derivatives:
        got, want = flatten(derivative(ruled)(X))[0], flatten(derivative(f)(X))[0]
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_rules_of_single_arguments_add_up() -> None:
    f = vk.custom_jvp(lambda x, y, z: {"a": x * y * z, "b": x + y})
    at, along = (2.0, 3.0, 5.0), (1.0, 10.0, 100.0)
    f.defjvps(
        lambda t, out, x, y, z: {"a": 2.0 * t * y * z, "b": t},
        None,
        lambda t, out, x, y, z: {"a": out["a"] * t, "b": 7.0 * t},
    )
    assert vk.jvp(f, at, along) == ({"a": 30.0, "b": 5.0}, {"a": 3030.0, "b": 701.0})
    f.defjvps(None, None, None)
    assert vk.jvp(f, at, along) == ({"a": 30.0, "b": 5.0}, {"a": 0.0, "b": 0.0})
    assert vk.grad(lambda x: f(x, 3.0, 5.0)["a"])(2.0) == 0.0


def test_trees_of_arguments_and_results_of_a_forward_rule() -> None:
    f = vk.custom_jvp(lambda d, z: {"a": d["x"] * z, "b": d["y"][0]})
    wrong: dict[str, Any] = {}

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (d, z), (dd, dz) = primals, tangents
        assert type(primals) is type(tangents) is tuple
        out_t = {"a": np.float32(0.5) * dd["x"] + d["x"] * dz, "b": 3}
        return f(d, z), {**out_t, **wrong}

    at: Any = ({"x": 2.0, "y": [5.0]}, 7.0)
    out, out_t = vk.jvp(f, at, ({"x": 10.0, "y": [0.0]}, 1.0))
    assert (out, out_t) == ({"a": 14.0, "b": 5.0}, {"a": 7.0, "b": 3.0})
    assert out_t["b"].dtype == np.float64
    wrong["b"] = np.ones(2)
    with pytest.raises(ValueError, match=r"a tangent at output\['b'\] of shape \(2,\)"):
        vk.jvp(f, at, at)
    with pytest.raises(TypeError, match=r"argument \[0\]\['y'\]\[0\] is a str"):
        f({"x": 2.0, "y": ["no"]}, 1.0)


def times_a_sum(symbolic_zeros: bool) -> tuple[Any, list[Any]]:
    """x sum(y), linear in x for its rule, and the tangents of y that the rule was given."""
    seen: list[Any] = []
    f = vk.custom_jvp(lambda x, y: x * np.sum(y))

    def rule(primals: Any, tangents: Any) -> Any:
        seen.append(tangents[1])
        return f(*primals), tangents[0] * np.sum(primals[1])

    f.defjvp(rule, symbolic_zeros=symbolic_zeros)
    return f, seen


def test_zeros_that_are_symbols_say_what_they_stand_for() -> None:
    f, seen = times_a_sum(symbolic_zeros=True)
    y = np.ones((2, 3), np.float32)
    vk.jvp(lambda x: f(x, y), (1.5,), (1.0,))
    (zero,) = seen
    assert (zero.shape, zero.ndim, zero.dtype) == ((2, 3), 2, np.float32)
    assert repr(zero) == "SymbolicZero(f32[2,3])"


def test_trees_of_arguments_and_results_of_a_transpose_rule() -> None:
    out: list[Any] = []

    def transpose(p: Any, ct: Any) -> Any:
        given = {"u": p["k"][0] * ct["y"], "v": None}
        return tuple(out) if out else (given,)

    f = vk.custom_rule(
        lambda p, x: {"y": p["k"][0] * x["u"] + 0.0 * x["v"]}, transpose=transpose, linear_argnums=1
    )
    p, x = {"k": [2.0]}, {"u": np.float32(1.5), "v": np.float64(3.0)}
    for g in (f, vk.jit(f)):
        got = vk.vjp(lambda x, g=g: g(p, x)["y"], x)[1](np.float64(1.0))[0]
        assert got == {"u": 2.0, "v": 0.0}
        assert (got["u"].dtype, got["v"].dtype) == (np.float32, np.float64)
    out[:] = [{"u": 1.0, "v": 1.0}, {}]
    with pytest.raises(TypeError, match="transpose must return a tuple of 1 cotangent"):
        vk.grad(lambda x: f(p, x)["y"])(x)
    out[:] = [{"u": 1.0}]
    with pytest.raises(TypeError, match="transpose returned the tree"):
        vk.grad(lambda x: f(p, x)["y"])(x)


@pytest.mark.parametrize("symbolic", [False, True])
def test_an_integer_has_a_tangent_of_its_own_dtype(symbolic: bool) -> None:
    f, seen = times_a_sum(symbolic)
    n = np.array([[1, 2, 3]])
    assert vk.jvp(lambda x: f(x, n), (1.5,), (2.0,)) == (9.0, 12.0)
    assert [(t.shape, t.dtype) for t in seen] == [((1, 3), vk.float0)]


def test_a_rule_for_batches_sees_trees() -> None:
    def mapped(n: int, batched: Any, d: Any, scale: Any) -> Any:
        assert (n, batched) == (3, [{"x": True, "y": False}, False])
        return {"a": d["x"] * d["y"] * scale}, {"a": True}

    f = vk.custom_rule(lambda d, scale: {"a": d["x"] * d["y"] * scale}, vmap=mapped)
    axes = ({"x": 0, "y": None}, None)
    got = vk.vmap(f, in_axes=axes)({"x": np.arange(3.0), "y": 2.0}, 5.0)
    np.testing.assert_array_equal(got["a"], 10.0 * np.arange(3.0))


def test_a_gradient_is_not_the_cotangent_that_a_rule_returns() -> None:
    f = vk.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: (x * 1.0, None), lambda _, ct: (ct,))
    ct = np.ones(3)
    (gradient,) = vk.vjp(f, X)[1](ct)
    assert not np.shares_memory(gradient, ct)
    gradient += 1.0
    np.testing.assert_array_equal(ct, np.ones(3))


def test_an_argument_that_is_not_differentiated_has_a_name_of_several_letters() -> None:
    f = vk.custom_vjp(lambda x, mode: x * 2.0, nondiff_argnames="mode")
    f.defvjp(lambda x, mode: (x * 2.0, None), lambda mode, _, ct: (3.0 * ct * len(mode),))
    assert vk.grad(lambda x: f(x, "up"))(1.0) == 6.0


NOT_A_RULE: Any = 3


@pytest.mark.parametrize(
    ("call", "which"),
    [
        (lambda: vk.custom_vjp(np.sin).defvjp(NOT_A_RULE, np.cos), "defvjp: fwd"),
        (lambda: vk.custom_vjp(np.sin).defvjp(np.cos, NOT_A_RULE), "defvjp: bwd"),
        (lambda: vk.custom_jvp(np.sin).defjvp(NOT_A_RULE), "defjvp: the first argument"),
        (lambda: vk.custom_jvp(np.hypot).defjvps(None, NOT_A_RULE), "defjvps: rule 1"),
        (lambda: vk.custom_rule(np.sin).deftranspose(NOT_A_RULE), "transpose: the first argument"),
        (lambda: vk.custom_rule(np.sin).defvmap(NOT_A_RULE), "defvmap: the first argument"),
    ],
    ids=range(6),
)
def test_a_rule_is_a_function(call: Any, which: str) -> None:
    with pytest.raises(TypeError, match=f"{which} must be a function, got int"):
        call()


def test_an_argument_is_given_once() -> None:
    with pytest.raises(TypeError, match="multiple values for argument 'y'"):
        with_vjp()(1.0, 2.0, y=3.0)


def test_rules_are_set_by_decorators() -> None:
    made: Any = vk.custom_rule()(lambda x: 2.0 * x)
    by_vjp: Any = vk.custom_vjp(nondiff_argnums=())(lambda x: 2.0 * x)
    rules = [lambda x: (2.0 * x, None), lambda _, ct: (5.0 * ct,)]
    for f in (made, by_vjp):
        f.defvjp(*rules)
        assert vk.grad(f)(1.0) == 5.0

    by_jvp: Any = vk.custom_jvp(nondiff_argnums=())(lambda x: 2.0 * x)
    by_jvp.defjvp(lambda xs, ts: (2.0 * xs[0], 3.0 * ts[0]))
    assert vk.grad(by_jvp)(1.0) == 3.0

    @made.defvmap
    def mapped(n: int, batched: Any, x: Any) -> Any:
        return 7.0 * x, True

    @made.deftranspose
    def transposed(ct: Any) -> Any:
        return (11.0 * ct,)

    assert mapped(2, [True], 1.0) == (7.0, True)
    assert transposed(1.0) == (11.0,)
    np.testing.assert_array_equal(vk.vmap(made)(X), 7.0 * X)
    assert vk.grad(made)(1.0) == 11.0
