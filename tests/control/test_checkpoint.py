"""`checkpoint` with policies: what is kept, what is computed again; nothing else changes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vjpkit as vk
from vjpkit.control.checkpointing import Checkpoint, agree, digest
from vjpkit.core.errors import ClosedTraceError
from vjpkit.core.tracer import Tracer

POLICIES = vk.checkpoint_policies
X = np.linspace(0.1, 1.0, 1000)
WRONG: Any = "x"
WRONG_NAME: Any = 2
SIZE = X.nbytes


def named(x: Any) -> Any:
    """exp, sin, tanh, sin; the second and the third have names."""
    a = vk.checkpoint_name(np.sin(np.exp(x)), "a")
    b = vk.checkpoint_name(np.tanh(a), "b")
    return np.sin(b)


def again(policy: Any, f: Any = named) -> tuple[dict[str, int], int]:
    """How often the pullback evaluates each function again, and what it keeps beyond its input."""
    _, pullback = vk.vjp(vk.checkpoint(f, policy=policy), X)
    text = str(pullback.program)
    counts = {name: text.count(f"= {name} ") for name in ("exp", "sin", "cos", "tanh", "matmul")}
    return counts, pullback.nbytes - SIZE


def test_nothing_saveable_computes_everything_again() -> None:
    counts, extra = again(POLICIES.nothing_saveable)
    assert counts == {"exp": 1, "sin": 1, "cos": 2, "tanh": 1, "matmul": 0}
    assert extra == 0


def test_everything_saveable_computes_nothing_again() -> None:
    counts, extra = again(POLICIES.everything_saveable)
    assert not any(counts.values())
    assert extra <= 4 * SIZE


def test_names_are_saved_and_what_led_to_them_is_not_computed() -> None:
    counts, extra = again(POLICIES.save_only_these_names("a"))
    assert counts == {"exp": 1, "sin": 0, "cos": 2, "tanh": 1, "matmul": 0}
    assert extra == SIZE
    counts, extra = again(POLICIES.save_only_these_names("b"))
    assert counts["tanh"] == 0
    assert extra == SIZE
    assert again(POLICIES.save_any_names_but_these("a")) == again(
        POLICIES.save_only_these_names("b")
    )
    counts, extra = again(POLICIES.save_anything_except_these_names("a", "b"))
    assert extra > 0


def test_policies_are_functions_of_primitives() -> None:
    counts, extra = again(lambda asked, *avals, **params: asked.name == "exp")
    assert counts["exp"] == 0
    assert counts["sin"] == 1
    assert extra == 0  # exp(x) instead of x
    both = POLICIES.save_from_both_policies(
        POLICIES.save_only_these_names("a"), POLICIES.save_only_these_names("b")
    )
    assert again(both)[1] == SIZE  # b does for tanh, and nothing needs a


def test_products_are_saved_by_dots_saveable() -> None:
    w = np.ones((1000, 1000)) / 1000

    def layers(x: Any) -> Any:
        return np.tanh(w @ np.tanh(w @ x))

    counts, _ = again(POLICIES.nothing_saveable, layers)
    saved, _ = again(POLICIES.dots_saveable, layers)
    assert counts["matmul"] - saved["matmul"] == 2


def test_names_inside_jit_are_seen() -> None:
    counts, extra = again(POLICIES.save_only_these_names("a"), vk.jit(named))
    assert counts["sin"] == 0
    assert extra == SIZE


def test_names_inside_a_long_function_that_is_called_twice_are_seen() -> None:
    def steps(x: Any) -> Any:
        for _ in range(40):
            x = np.sin(x)
        return vk.checkpoint_name(x, "a")

    names, staged = POLICIES.save_only_these_names("a"), vk.jit(steps)
    seen = again(names, lambda x: steps(steps(x)))
    assert again(names, lambda x: staged(staged(x))) == seen
    assert seen[1] == SIZE


def test_names_of_examples_are_seen() -> None:
    names = POLICIES.save_only_these_names("a")
    assert again(names, vk.vmap(named)) == again(names)


@pytest.mark.parametrize("arrays", range(6))
def test_a_budget_is_kept(arrays: int) -> None:
    def chain(x: Any) -> Any:
        for _ in range(5):
            x = np.tanh(x)
        return x

    light = vk.checkpoint(chain, memory=arrays * SIZE)
    _, pullback = vk.vjp(light, X)
    assert pullback.nbytes == min(arrays + 1, 5) * SIZE  # without x where all are kept
    evaluated = str(pullback.program).count("= tanh ")
    assert evaluated == 5 - min(arrays, 5)  # the later ones are kept
    np.testing.assert_allclose(pullback(X)[0], vk.vjp(chain, X)[1](X)[0], rtol=1e-14)


def test_a_budget_prefers_what_is_dear() -> None:
    w = np.ones((1000, 1000)) / 1000

    def mixed(x: Any) -> Any:
        return np.tanh(np.exp(w @ np.exp(x)))

    _, pullback = vk.vjp(vk.checkpoint(mixed, memory=SIZE), X)
    plain = str(vk.vjp(vk.checkpoint(mixed, memory=0), X)[1].program).count("= matmul ")
    assert str(pullback.program).count("= matmul ") == plain - 1


ALL: dict[str, Any] = {
    "none": {},
    "nothing": {"policy": POLICIES.nothing_saveable},
    "everything": {"policy": POLICIES.everything_saveable},
    "names": {"policy": POLICIES.save_only_these_names("a")},
    "memory": {"memory": "16 kB"},
}
TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "grad": lambda f: vk.grad(lambda x: np.sum(f(x) ** 2)),
    "jvp": lambda f: lambda x: vk.jvp(f, (x,), (x,))[1],
    "vmap": lambda f: lambda x: vk.vmap(f)(np.stack([x, x]))[1],
    "jit": vk.jit,
    "checkpoint": lambda f: vk.checkpoint(f, policy=POLICIES.dots_saveable),
}


@pytest.mark.parametrize("options", ALL)
@pytest.mark.parametrize("inner", TRANSFORMS)
@pytest.mark.parametrize("outer", TRANSFORMS)
def test_nothing_else_changes(options: str, inner: str, outer: str) -> None:
    def both(f: Any) -> Any:
        return TRANSFORMS[outer](TRANSFORMS[inner](f))

    x = X[::100]
    light = vk.checkpoint(named, **ALL[options])
    np.testing.assert_allclose(both(light)(x), both(named)(x), rtol=1e-12)


@pytest.mark.parametrize("options", ALL)
def test_as_a_decorator_with_keywords_and_prints_inside(options: str, capsys: Any) -> None:
    debug: Any = vk.debug

    @vk.checkpoint(static_argnums=(), **ALL[options])
    def light(x: Any) -> Any:
        debug.print("{}", x)
        return named(x)

    assert isinstance(light, Checkpoint)
    for f in (light, vk.jit(light)):
        value, gradient = vk.value_and_grad(f)(0.5)
        said = capsys.readouterr().out
        assert said == ("0.5\n" if f is not light or options != "none" else "0.5\n0.5\n")
        assert (value, gradient) == pytest.approx(vk.value_and_grad(named)(0.5), rel=1e-14)


@pytest.mark.parametrize("options", ALL)
def test_closing_over_traced_values(options: str) -> None:
    def outer(c: Any, x: Any) -> Any:
        d = np.exp(c)
        light = vk.checkpoint(lambda x: np.sum(np.sin(x * c) * d), **ALL[options])
        return light(x) + vk.checkpoint(lambda: d * d, **ALL[options])()

    def plain(c: Any, x: Any) -> Any:
        return np.sum(np.sin(x * c) * np.exp(c)) + np.exp(c) ** 2

    x = X[::100]
    for transform in (lambda f: vk.grad(f, (0, 1)), lambda f: vk.grad(vk.jit(f), (0, 1))):
        for a, b in zip(transform(outer)(0.5, x), transform(plain)(0.5, x), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)
    assert vk.hessian(outer)(0.5, x) == pytest.approx(vk.hessian(plain)(0.5, x), rel=1e-12)


def test_a_hidden_traced_value_is_found_when_the_function_has_run() -> None:
    box: list[Any] = []
    light = vk.checkpoint(lambda x: x * box[0] ** 2)

    def outer(c: Any) -> Any:
        box[:] = [c]
        return light(c)

    assert vk.grad(outer)(2.0) == 12.0


def test_values_decide_control_flow_without_a_policy() -> None:
    def f(x: Any) -> Any:
        while np.abs(x) < 10:
            x = x * 2
        return x

    assert vk.grad(vk.checkpoint(f))(1.0) == 16.0
    with pytest.raises(vk.core.TracerConversionError) as caught:
        vk.grad(vk.checkpoint(f, memory=0))(1.0)
    assert "it has a policy" in caught.value.__notes__[0]


def test_static_arguments_and_keywords() -> None:
    light = vk.checkpoint(lambda kind, x, y: getattr(np, kind)(x) * y, static_argnums=0)
    assert vk.grad(lambda x: light("sin", x, y=2.0))(0.0) == 2.0
    assert vk.grad(light, 1)("sin", 0.0, 3.0) == 3.0
    named = vk.checkpoint(lambda x, kind: getattr(np, kind)(x), static_argnames="kind")
    for policy in (None, POLICIES.everything_saveable):
        kept = vk.checkpoint(named.fun, static_argnames=("kind",), policy=policy)
        assert vk.grad(lambda x, f=kept: f(x, kind="sin") + f(x, "exp"))(0.0) == 2.0
        assert vk.jit(vk.grad(lambda x, f=kept: f(x, kind="sin")))(0.0) == 1.0


def test_outputs_and_tangents_of_forward_mode_are_differentiated() -> None:
    """The outputs in the point alone, the tangents in both."""
    light = vk.checkpoint(lambda x: (np.sin(x), np.cos(x)))
    pushed = lambda x, t: vk.jvp(light, (x,), (t,))
    weighted = lambda x, t: sum(w * y for w, y in zip((1.0, 2.0, 3.0, 4.0), np.ravel(pushed(x, t))))
    s, c = np.sin(0.3), np.cos(0.3)
    dx, dt = vk.grad(weighted, (0, 1))(0.3, 0.7)
    assert dx == pytest.approx(c - 2.0 * s + 0.7 * (-3.0 * s - 4.0 * c), rel=1e-14)
    assert dt == pytest.approx(3.0 * c - 4.0 * s, rel=1e-14)

    def in_tangents(t: Any) -> Any:
        outs, out_ts = pushed(0.3, t)
        assert not any(isinstance(y, Tracer) for y in outs)
        assert all(isinstance(y, Tracer) for y in out_ts)
        return 3.0 * out_ts[0] + 4.0 * out_ts[1]

    assert vk.grad(in_tangents)(0.7) == pytest.approx(3.0 * c - 4.0 * s, rel=1e-14)


def test_values_and_gradients_in_a_program_are_differentiated_again() -> None:
    light = vk.checkpoint(lambda x: np.sin(np.exp(x)))
    both = vk.jit(lambda x: sum(vk.value_and_grad(light)(x)))
    y = np.exp(0.3)
    want = y * np.cos(y) + y * np.cos(y) - y * y * np.sin(y)
    assert vk.grad(both)(0.3) == pytest.approx(want, rel=1e-14)


def test_other_values_than_at_first_are_noticed() -> None:
    a = np.ones(3)
    pullback = vk.vjp(vk.checkpoint(lambda x: x * a), X[:3])[1]
    a[1] = 2.0
    with pytest.raises(ClosedTraceError, match="gave other values"):
        pullback(X[:3])
    a, x = np.ones(50_000), np.zeros(50_000)  # too large to be copied
    pullback = vk.vjp(lambda x: vk.checkpoint(lambda x, a: x * a)(x, a), x)[1]
    a[7] = 2.0  # the values are the same, the derivative is not
    with pytest.raises(ClosedTraceError, match="changed in place"):
        pullback(x)


def test_digests_are_sums_of_blocks_and_agree_but_for_rounding() -> None:
    x = np.linspace(-1.0, 2.0, 6400)
    (found,) = digest([x])
    assert found is not None
    sums, scale = found
    np.testing.assert_allclose(sums, np.sum(x.reshape(64, 100), axis=1), rtol=1e-12)
    np.testing.assert_allclose(scale, np.sum(np.abs(x).reshape(64, 100), axis=1), rtol=1e-12)
    np.testing.assert_array_equal(digest([x[:3]])[0], (x[:3], abs(x[:3])))
    assert agree(digest([1e6 * x]), digest([1e6 * x * (1 + 1e-13)]))
    odd, integer = np.array([np.nan, np.inf, -np.inf]), np.arange(3)
    assert agree(digest([odd, integer]), digest([odd, integer + 1]))
    for y in (x[::-1], -x, x * (1 + 1e-9), np.full(6400, np.nan)):
        assert not agree(digest([x]), digest([y]))
        assert not agree(digest([y]), digest([x]))


def test_reverse_over_forward_keeps_the_arguments_only() -> None:
    def f(x: Any) -> Any:
        for _ in range(10):
            x = np.sin(x)
        return x

    def pushed(g: Any) -> Any:
        return vk.vjp(lambda x: vk.jvp(g, (x,), (X,))[1], X)[1]

    for options in ALL.values():
        if options.get("policy") is not POLICIES.everything_saveable:
            assert pushed(vk.checkpoint(f, **options)).nbytes <= 5 * SIZE < pushed(f).nbytes


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: vk.checkpoint(np.sin, concrete=True), TypeError, "concrete=True is not supported"),
        (lambda: vk.checkpoint(np.sin, memory="much"), ValueError, "such as '100MB', got 'much'"),
        (lambda: vk.checkpoint(np.sin, memory=-1), ValueError, "got -1"),
        (lambda: vk.checkpoint(np.sin, memory=1, policy=POLICIES.dots_saveable), TypeError,
         "Give one of them"),
        (lambda: vk.checkpoint(np.sin, policy="dots"), TypeError, "policy must be a function"),
        (lambda: vk.checkpoint(np.sin, static_argnums=WRONG), TypeError, "static_argnums must be"),
        (lambda: vk.checkpoint(lambda x: x, static_argnums=9), ValueError, "names argument 9"),
        (lambda: vk.checkpoint(np.sin, static_argnames=(WRONG_NAME,)), TypeError, "argnames must"),
        (lambda: vk.checkpoint(lambda x: x, static_argnames="y"), ValueError, "names 'y', but"),
        (lambda: vk.checkpoint_name(1.0, WRONG_NAME), TypeError, "name must be a string, got int"),
        (lambda: vk.checkpoint_name("x", "y"), TypeError, "checkpoint_name"),
        (lambda: POLICIES.save_only_these_names(1), TypeError, "names are strings"),
    ],
)  # fmt: skip
def test_bad_calls(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert "test_checkpoint.py" in str(caught.value)


@pytest.mark.parametrize("kept", [{"memory": 60}, {"policy": POLICIES.everything_saveable}])
def test_a_linear_map_of_what_is_saved_is_transposed(kept: dict[str, Any]) -> None:
    """Staged, a pullback is transposed once more; what it saves may not come out beside it."""
    solve = lambda matvec, b: np.linalg.solve(vk.jacfwd(matvec)(np.zeros(3)), b)

    def implicit(x: Any) -> Any:
        a = np.outer(x, x) + np.eye(3)
        return vk.lax.custom_linear_solve(lambda v: a @ v, x, solve, solve)

    x, ct = np.array([0.4, -0.7, 1.1]), np.array([0.3, 1.0, -0.5])
    for f in (lambda x: vk.lax.map(lambda y: np.clip(y, -0.3, 0.8) * x[0], x), implicit):
        light = vk.jit(vk.checkpoint(f, **kept))
        (want,) = vk.vjp(f, x)[1](ct)
        np.testing.assert_allclose(vk.vjp(light, x)[1](ct)[0], want, rtol=1e-12)
        np.testing.assert_allclose(vk.linearize(light, x)[1].T(ct)[0], want, rtol=1e-12)
        np.testing.assert_allclose(ct @ vk.jacrev(vk.jacfwd(light))(x) @ x,
                                   ct @ vk.jacfwd(vk.jacfwd(f))(x) @ x, rtol=1e-10)  # fmt: skip
