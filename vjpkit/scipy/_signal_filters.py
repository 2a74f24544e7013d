"""Digital filters, and what they do to frequencies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.scipy._calls import Call, value_of
from vjpkit.scipy._filters import extended, filtered, padded, steady
from vjpkit.scipy._signal_calls import axis_back, axis_last, known_of, ours, refuse, scaled

__all__ = [
    "filtfilt", "freqz", "lfilter", "lfilter_zi", "lfiltic", "sosfilt", "sosfilt_zi",
    "sosfiltfilt",
]  # fmt: skip


@ours()
def lfilter(call: Call, b: Value, a: Value, x: Value, axis: int, zi: Any) -> Any:
    """``x`` through the filter of coefficients ``b`` and ``a``; with ``zi`` its final state too.

    The transpose in ``x`` is the filter run from the other end.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda a: lfilter([1.0], [1.0, a], np.ones(2))[-1])(0.5)
    np.float64(-1.0)
    """
    b, a, x = np.atleast_1d(value_of(b)), np.atleast_1d(value_of(a)), value_of(x)
    last = axis_last(x, axis)
    if zi is None:
        return axis_back(filtered(b, a, last, None)[0], axis)
    order = max(b.shape[0], a.shape[0]) - 1
    state = np.broadcast_to(axis_last(value_of(zi), axis), (*last.shape[:-1], order))
    y, zf = filtered(b, a, last, state)
    return axis_back(y, axis), axis_back(zf, axis)


@ours()
def lfilter_zi(call: Call, b: Value, a: Value) -> Value:
    """The state in which a filter answers ones with a constant.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacobian(lambda a: lfilter_zi([1.0], [1.0, a]))(-0.5)
    array([-4.])
    """
    return steady(np.atleast_1d(value_of(b)), np.atleast_1d(value_of(a)))


@ours()
def lfiltic(call: Call, b: Value, a: Value, y: Value, x: Any) -> Value:
    """The state of a filter after outputs ``y`` and inputs ``x``, the latest first.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jacobian(lambda y: lfiltic([1.0], [1.0, -0.5], y))(np.ones(1))
    array([[0.5]])
    """
    b, a = np.atleast_1d(value_of(b)), np.atleast_1d(value_of(a))
    b, a = b / a[0], a / a[0]
    order = max(b.shape[0], a.shape[0]) - 1
    state = np.zeros(order)
    for sign, c, given in ((1, b, x), (-1, a, y)):
        n = c.shape[0] - 1
        if given is None or not n:
            continue
        past = np.atleast_1d(value_of(given))[:n]
        past = padded(past, 0, n - past.shape[0])
        parts = np.stack([np.sum(c[m + 1 :] * past[: n - m]) for m in range(n)])
        state = state + sign * padded(parts, 0, order - n)
    return state


@ours()
def filtfilt(
    call: Call, b: Value, a: Value, x: Value, axis: int, padtype: Any, padlen: Any, method: Any
) -> Value:
    """``x`` through the filter forward and backward; ``method="gust"`` is refused.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: filtfilt([0.5, 0.5], [1.0], x, padlen=0)[1])(np.zeros(4))
    array([0.25, 0.5 , 0.25, 0.  ])
    """
    if method != "pad":
        refuse(call, f"method={method!r} is", "Use method='pad'.")
    b, a, x = np.atleast_1d(value_of(b)), np.atleast_1d(value_of(a)), value_of(x)
    order = max(b.shape[0], a.shape[0])
    edge = 0 if padtype is None else 3 * order if padlen is None else padlen
    both = _forth_and_back(lambda y: filtered(b, a, y, steady(b, a) * y[..., :1])[0])
    return axis_back(both(axis_last(x, axis), edge, padtype), axis)


def _forth_and_back(run: Callable[[Value], Value]) -> Callable[[Value, int, Any], Value]:
    """A filter of the last axis run from both ends, over a signal that goes on at its ends."""

    def both(x: Value, edge: int, padtype: Any) -> Value:
        y = run(run(extended(x, edge, padtype))[..., ::-1])[..., ::-1]
        return y[..., edge : y.shape[-1] - edge]

    return both


def _sections(sos: Value, x: Value, states: Sequence[Any]) -> tuple[Value, list[Value]]:
    """The last axis through sections of second order, one after the other."""
    after = []
    for section, state in zip(sos, states, strict=True):
        x, last = filtered(section[:3], section[3:], x, state)
        after.append(last)
    return x, after


@ours()
def sosfilt(call: Call, sos: Value, x: Value, axis: int, zi: Any) -> Any:
    """``x`` through sections of second order; with ``zi`` their final states too.

    >>> import numpy as np, vjpkit as vk
    >>> one = [[1.0, 0.0, 0.0, 1.0, -0.5, 0.0]]
    >>> vk.grad(lambda x: sosfilt(one, x)[-1])(np.zeros(3))
    array([0.25, 0.5 , 1.  ])
    """
    sos, x = np.atleast_2d(value_of(sos)), value_of(x)
    if zi is None:
        return axis_back(_sections(sos, axis_last(x, axis), [None] * sos.shape[0])[0], axis)
    states = [axis_last(state, axis) for state in value_of(zi)]
    y, after = _sections(sos, axis_last(x, axis), states)
    return axis_back(y, axis), np.stack([axis_back(state, axis) for state in after])


def _steady_sections(sos: Value) -> list[Value]:
    """The states in which sections answer ones with constants."""
    scale, out = 1.0, []
    for section in sos:
        b, a = section[:3], section[3:]
        out.append(scale * steady(b, a))
        scale = scale * (np.sum(b) / np.sum(a))
    return out


@ours()
def sosfilt_zi(call: Call, sos: Value) -> Value:
    """The states in which sections of second order answer ones with constants.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda s: sosfilt_zi(s)[0, 0])(np.array([[1.0, 0.0, 0.0, 1.0, -0.5, 0.0]]))[0, :3]
    array([1., 2., 2.])
    """
    return np.stack(_steady_sections(value_of(sos)))


@ours()
def sosfiltfilt(call: Call, sos: Value, x: Value, axis: int, padtype: Any, padlen: Any) -> Value:
    """``x`` through sections of second order forward and backward.

    How far the signal goes on at its ends by default is read off coefficients that are zero, where
    these are known.

    >>> import numpy as np, vjpkit as vk
    >>> one = [[0.5, 0.5, 0.0, 1.0, 0.0, 0.0]]
    >>> vk.grad(lambda x: sosfiltfilt(one, x, padlen=0)[1])(np.zeros(4))
    array([0.25, 0.5 , 0.25, 0.  ])
    """
    sos, x = np.atleast_2d(value_of(sos)), value_of(x)
    taps = 2 * sos.shape[0] + 1
    if padlen is None and padtype is not None:
        taps -= min(int((known_of(call, sos)[:, k] == 0).sum()) for k in (2, 5))
    edge = 0 if padtype is None else 3 * taps if padlen is None else padlen

    def run(y: Value) -> Value:
        states = [state * y[..., :1] for state in _steady_sections(sos)]
        return _sections(sos, y, states)[0]

    return axis_back(_forth_and_back(run)(axis_last(x, axis), edge, padtype), axis)


@ours()
def freqz(
    call: Call, b: Value, a: Value, worN: Any, whole: Any, fs: Any, include_nyquist: Any
) -> tuple[Value, Value]:
    """Frequencies, and a digital filter's response at them: complex. ``b`` and ``a`` are vectors.

    >>> import numpy as np, vjpkit as vk
    >>> gain = lambda b: np.abs(freqz(b, worN=[0.0])[1])[0]
    >>> vk.grad(gain)(np.array([1.0, 2.0]))
    array([1., 1.])
    """
    b, a = np.atleast_1d(value_of(b)), np.atleast_1d(value_of(a))
    if b.ndim > 1 or a.ndim > 1:
        refuse(call, "coefficients of more than one filter are", "Use vk.vmap.")
    given = worN is not None and np.ndim(worN) > 0
    w = value_of(worN) if given else scaled(call.found[0], fs, 1)
    z = np.exp(-2j * np.pi * w / fs)
    above, below = (np.sum(c * z[:, None] ** np.arange(c.shape[0]), axis=-1) for c in (b, a))
    return w, above / below
