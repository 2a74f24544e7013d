"""What must hold of a call: values, first and second derivatives, mapped, staged, other dtypes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import vjpkit as vk
from tests.numpy.coverage.call import Call, is_array
from vjpkit.core.aval import aval_of
from vjpkit.core.errors import TracerConversionError, UnsupportedError
from vjpkit.pytree import flatten
from vjpkit.testing.compare import (
    assert_aval,
    assert_close,
    magnitude,
    pairing,
    random_like,
    rounding,
)
from vjpkit.testing.numeric import STEPS, central

__all__ = ["CHECKS", "check", "derivatives"]

_DIFFERENCES = 1e-7
_COARSE = STEPS[1::2]
"""Fewer steps, for differences of gradients."""


def check(call: Call) -> None:
    """Every check that applies."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for test in CHECKS:
            if test.__name__ not in call.exempt:
                test(call)


def _rng() -> np.random.Generator:
    return np.random.default_rng(5)


def _directions(call: Call, rng: np.random.Generator) -> list[Any]:
    """Random tangents, of a tenth of the size of the primals: differences stay in the domain."""
    ts = [random_like(x, rng) for x in call.primals]
    sizes = [np.min(abs(np.asarray(x)[x != 0]), initial=1.0) for x in call.primals]
    return [(t * min(1.0, float(s))).astype(t.dtype)[()] for t, s in zip(ts, sizes, strict=True)]


def _line(call: Call, f: Callable[..., Any], ts: Sequence[Any]) -> Callable[[float], Any]:
    return lambda h: f(*[x + h * t for x, t in zip(call.primals, ts, strict=True)])


def _assert_estimated(got: Any, estimate: Any, what: str) -> None:
    scale = max(1.0, float(np.max(abs(estimate.value), initial=0.0)))
    assert float(np.max(estimate.error, initial=0.0)) <= 1e-3 * scale, f"{what}: not smooth here"
    assert_close(got, estimate.value, _DIFFERENCES, what, 10 * estimate.error)


def derivatives(call: Call) -> dict[str, bool]:
    """Which arguments it is differentiated in, and whether the result depends on them smoothly."""
    found: dict[str, bool] = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        rng = _rng()
        ts = _directions(call, rng)
        if not call.smooth():
            return dict.fromkeys(call.arguments, False)
        for i, name in enumerate(call.arguments):
            alone = [t if i == j else 0 * t for j, t in enumerate(ts)]
            moves = any(np.any(t != 0) for t in vk.jvp(call.smooth, call.primals, alone)[1])
            found[name] = found.get(name, False) or moves
    return found


def value(call: Call) -> None:
    """What is computed on traced arguments is what NumPy computes, types and dtypes included."""
    wanted = call.outputs(*call.primals)
    if call.live:
        xs = call.primals
        _same(vk.vjp(call.smooth, *xs, has_aux=False)[0], call.smooth(*xs), f"{call}: vjp")
        _same(vk.jvp(call.smooth, xs, xs)[0], call.smooth(*xs), f"{call}: jvp")
        aux = vk.vjp(lambda *ys: (0.0, call.outputs(*ys)), *xs, has_aux=True)[2]
        _same(aux, wanted, f"{call}: all outputs")


def _same(got: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
    assert len(got) == len(wanted), f"{what}: {len(got)} outputs, wanted {len(wanted)}"
    for a, b in zip(got, wanted, strict=True):
        if not is_array(b):
            assert np.all(a == b), what
            continue
        assert isinstance(a, np.ndarray) == isinstance(b, np.ndarray), f"{what}: {a!r} for {b!r}"
        assert_aval(a, aval_of(b), what)
        assert_close(a, b, max(1e-13, rounding(b) / 1e3), what)


def first(call: Call) -> None:
    """Tangents are what differences give; the pullback is the transpose."""
    if not call.live or not call.smooth():
        return
    rng = _rng()
    ts = _directions(call, rng)
    _, pushed = vk.jvp(call.smooth, call.primals, ts)
    estimates = central(_line(call, call.smooth, ts))
    for got, estimate in zip(pushed, estimates, strict=True):
        _assert_estimated(got, estimate, f"{call}: tangent")
    outs, pullback = vk.vjp(call.smooth, *call.primals)
    cts = [random_like(y, rng) for y in outs]
    pulled = pullback(cts)
    _assert_dual(cts, pushed, pulled, ts, f"{call}: dot test")
    for x, ct in zip(call.primals, pulled, strict=True):
        assert_aval(ct, aval_of(x), f"{call}: cotangent")


def _assert_dual(cts: Any, pushed: Any, pulled: Any, ts: Any, what: str) -> None:
    left, right = list(zip(cts, pushed, strict=True)), list(zip(pulled, ts, strict=True))
    size = max(1.0, sum(magnitude(*pair) for pair in (*left, *right)))
    tolerance = max([rounding(x) for pair in (*left, *right) for x in pair], default=0.0)
    got, want = sum(pairing(*p) for p in right), sum(pairing(*p) for p in left)
    assert_close(got / size, want / size, tolerance, what)


def _pulled(call: Call) -> Callable[..., Any]:
    """The pullback of fixed cotangents, as a function of the primals."""
    rng = np.random.default_rng(11)
    cts = [random_like(y, rng) for y in call.smooth()]

    def pulled(*xs: Any) -> Any:
        return vk.vjp(call.smooth, *xs)[1](cts)

    return pulled


def second(call: Call) -> None:
    """The gradient's tangents are what its differences give; its pullback is the transpose."""
    if not call.live or not call.smooth():
        return
    rng = _rng()
    pulled = _pulled(call)
    ts, us = _directions(call, rng), _directions(call, rng)
    _, pushed = vk.jvp(pulled, call.primals, ts)
    for got, estimate in zip(pushed, central(_line(call, pulled, ts), _COARSE), strict=True):
        _assert_estimated(got, estimate, f"{call}: second derivative")
    back = vk.vjp(pulled, *call.primals)[1](tuple(us))
    _assert_dual(us, pushed, back, ts, f"{call}: dot test of the gradient")


def is_value(x: Any) -> bool:
    """Whether ``x`` is something that a program can return."""
    return is_array(x) or isinstance(x, bool | int | float | complex)


_UNKNOWN = (TracerConversionError, UnsupportedError)


def staged(call: Call) -> None:
    """Its program, that of its gradient, and `jit` compute what eager code computes."""
    live = call.traced
    if not live:
        return
    xs = [call.flat[0][i] for i in live]

    def run(*ys: Any) -> list[Any]:
        return list(filter(is_value, flatten(call.run(*ys, live=live))[0]))

    wanted = run(*xs)
    if "known" in call.exempt:
        _assert_refused(lambda: vk.make_ir(run)(*xs), f"{call}: staged")
        return
    _same(vk.make_ir(run)(*xs)(*xs), wanted, f"{call}: staged")
    _same(vk.jit(run)(*xs), wanted, f"{call}: jit")
    if call.live and call.smooth():
        pulled = _pulled(call)
        ys = call.primals
        _near(vk.make_ir(pulled)(*ys)(*ys), pulled(*ys), f"{call}: staged gradient")
        _near(vk.jit(pulled)(*ys), pulled(*ys), f"{call}: jit of the gradient")


def _near(got: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
    for a, b in zip(got, wanted, strict=True):
        assert_aval(a, aval_of(b), what)
        assert_close(a, b, rounding(b), what)


def _assert_refused(f: Callable[[], Any], what: str) -> None:
    """``f`` says that it needs values that are not known."""
    try:
        f()
    except _UNKNOWN:
        return
    raise AssertionError(f"{what}: what depends on values was taken without knowing them")


def mapped(call: Call) -> None:
    """`vmap` of the call and of its gradient is a loop over examples."""
    live = call.traced
    if not live:
        return
    xs = [call.flat[0][i] for i in live]

    def run(*ys: Any) -> list[Any]:
        return list(filter(is_value, flatten(call.run(*ys, live=live))[0]))

    if "known" in call.exempt:
        stacked = [np.stack([x, x]) for x in xs]
        _assert_refused(lambda: vk.vmap(run)(*stacked), f"{call}: mapped")
        return
    _mapped(run, xs, f"{call}: mapped")
    if call.live and call.smooth():
        _mapped(_pulled(call), call.primals, f"{call}: gradient mapped")


def _mapped(f: Callable[..., Any], xs: Sequence[Any], what: str) -> None:
    scale = 1.125 if any(x.dtype.kind in "fc" for x in xs) else 1
    examples = [[(np.asarray(x) * s).astype(x.dtype)[()] for x in xs] for s in (1, scale)]
    stacked = [np.stack(column) for column in zip(*examples, strict=True)]
    loop = [list(f(*example)) for example in examples]
    wanted = [np.stack([np.asarray(y) for y in column]) for column in zip(*loop, strict=True)]
    if wanted:
        _near(list(vk.vmap(f)(*stacked)), wanted, what)


_PRECISIONS = {"float16": 0.05, "float32": 2e-4, "longdouble": 1e-10}


def dtypes(call: Call) -> None:
    """In other precisions: NumPy's dtypes, gradients of the primals' dtypes, near those of
    double precision; or NumPy's own refusal."""
    if not call.live or not call.smooth():
        return
    wanted = _pulled(call)(*call.primals)
    for dtype, tolerance in _PRECISIONS.items():
        other = call.cast(dtype)
        try:
            plain = other.smooth()
        except (TypeError, np.linalg.LinAlgError) as error:
            _assert_raises(other, type(error))
            continue
        outs, pullback = vk.vjp(other.smooth, *other.primals)
        _avals(outs, plain, f"{other}: value")
        rng = np.random.default_rng(11)
        cts = [
            random_like(y, rng).astype(z.dtype) for y, z in zip(call.smooth(), plain, strict=True)
        ]
        pulled = pullback([c[()] for c in cts])
        _avals(pulled, other.primals, f"{other}: cotangent")
        if "precision" in call.exempt:
            continue
        for ct, want in zip(pulled, wanted, strict=True):
            size = max(1.0, float(np.max(abs(want), initial=0.0)))
            off = abs(np.asarray(ct).astype(np.result_type(ct, np.float64)) - want) / size
            assert (off <= tolerance).all(), f"{other}: gradient off by {np.max(off)}"


def _avals(got: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
    for a, b in zip(got, wanted, strict=True):
        assert_aval(a, aval_of(b), what)


def _assert_raises(call: Call, kind: type[Exception]) -> None:
    try:
        vk.vjp(call.smooth, *call.primals)
    except kind:
        return
    raise AssertionError(f"{call}: NumPy raises {kind.__name__}")


CHECKS = (value, first, second, staged, mapped, dtypes)
