"""Many steps of a small state: ordinary differential equations, and writing in a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.case import Case, Size

STEPS = ((100,), (1000,), (10_000,), (100_000,))
EAGER = 10_000
"""Steps that a library which runs them one by one is asked for at most."""
ONE_BY_ONE = dict.fromkeys(("vjpkit", "torch", "autograd", "mygrad"), EAGER)
ONE_BY_ONE |= {"jax-eager": 100, "torch-compile": 100, "pytensor": 100, "casadi": 1000}
H = 1e-3


def prey_and_predators(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    """The parameters, among which are the initial populations; and the steps."""
    return np.array([1.1, 0.4, 0.1, 0.4, 10.0, 5.0]), size[0]


def lotka_volterra(np: Any, p: Any, steps: int) -> Any:
    a, b, c, d = p[0], p[1], p[2], p[3]

    def slope(u, v):
        return a * u - b * u * v, c * u * v - d * v

    def step(state, _=None):
        u, v = state
        k1, l1 = slope(u, v)
        k2, l2 = slope(u + 0.5 * H * k1, v + 0.5 * H * l1)
        k3, l3 = slope(u + 0.5 * H * k2, v + 0.5 * H * l2)
        k4, l4 = slope(u + H * k3, v + H * l3)
        return u + H / 6 * (k1 + 2 * k2 + 2 * k3 + k4), v + H / 6 * (l1 + 2 * l2 + 2 * l3 + l4)

    u, v = np.loop(step, (p[4], p[5]), steps)
    return u * u + v


def lotka_volterra_by_hand(p: np.ndarray, steps: int) -> np.ndarray:
    """The states are kept, each step is computed again on the way back."""
    a, b, c, d, u, v = p.tolist()
    return np.array(_lotka_volterra_back(a, b, c, d, u, v, steps))


def lotka_volterra_in_loops(njit: Any) -> Callable[..., Any]:
    compiled = njit(_lotka_volterra_back)
    return lambda p, steps: np.array(compiled(p[0], p[1], p[2], p[3], p[4], p[5], steps))


def _lotka_volterra_back(a, b, c, d, u, v, steps):
    us, vs = np.empty(steps + 1), np.empty(steps + 1)
    us[0], vs[0] = u, v
    for i in range(steps):
        k1, l1 = a * u - b * u * v, c * u * v - d * v
        x, y = u + 0.5 * H * k1, v + 0.5 * H * l1
        k2, l2 = a * x - b * x * y, c * x * y - d * y
        x, y = u + 0.5 * H * k2, v + 0.5 * H * l2
        k3, l3 = a * x - b * x * y, c * x * y - d * y
        x, y = u + H * k3, v + H * l3
        k4, l4 = a * x - b * x * y, c * x * y - d * y
        u = u + H / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        v = v + H / 6 * (l1 + 2 * l2 + 2 * l3 + l4)
        us[i + 1], vs[i + 1] = u, v
    ga, gb, gc, gd = 0.0, 0.0, 0.0, 0.0
    gu, gv = 2 * u, 1.0
    for i in range(steps - 1, -1, -1):
        u, v = us[i], vs[i]
        k1, l1 = a * u - b * u * v, c * u * v - d * v
        x2, y2 = u + 0.5 * H * k1, v + 0.5 * H * l1
        k2, l2 = a * x2 - b * x2 * y2, c * x2 * y2 - d * y2
        x3, y3 = u + 0.5 * H * k2, v + 0.5 * H * l2
        k3, l3 = a * x3 - b * x3 * y3, c * x3 * y3 - d * y3
        x4, y4 = u + H * k3, v + H * l3
        sk, sl, su, sv = 0.0, 0.0, gu, gv
        for x, y, weight, reach in (
            (x4, y4, 1.0, H), (x3, y3, 2.0, 0.5 * H), (x2, y2, 2.0, 0.5 * H), (u, v, 1.0, 0.0),
        ):  # fmt: skip
            ck, cl = H / 6 * weight * gu + sk, H / 6 * weight * gv + sl
            cx, cy = ck * (a - b * y) + cl * c * y, -ck * b * x + cl * (c * x - d)
            ga += ck * x
            gb -= ck * x * y
            gc += cl * x * y
            gd -= cl * y
            su, sv = su + cx, sv + cy
            sk, sl = reach * cx, reach * cy
        gu, gv = su, sv
    return ga, gb, gc, gd, gu, gv


MASSES = np.array([1.0, 0.8, 1.2])
SOFT = 0.05


def three_bodies(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    places = np.array([[1.0, 0.0], [-0.5, 0.8], [-0.4, -0.9]])
    speeds = np.array([[0.0, 0.6], [-0.5, -0.3], [0.5, -0.2]])
    return np.stack([places, speeds]), MASSES, size[0]


def n_body(np: Any, start: Any, masses: Any, steps: int) -> Any:
    """Leapfrog with softened gravity; how far the bodies are from the origin at the end."""

    def pull(r):
        apart = r[None, :, :] - r[:, None, :]
        near = np.sum(apart * apart, axis=2) + SOFT
        weight = masses / (near * np.sqrt(near))
        return np.sum(weight[:, :, None] * apart, axis=1)

    def step(state, _=None):
        r, v = state
        v = v + 0.5 * H * pull(r)
        r = r + H * v
        return r, v + 0.5 * H * pull(r)

    r, _ = np.loop(step, (start[0], start[1]), steps)
    return np.sum(r * r)


def n_body_by_hand(start: np.ndarray, masses: np.ndarray, steps: int) -> np.ndarray:
    def pull(r):
        apart = r[None, :, :] - r[:, None, :]
        near = np.sum(apart * apart, axis=2) + SOFT
        return np.sum((masses / (near * np.sqrt(near)))[:, :, None] * apart, axis=1)

    def pull_back(r, ct):
        apart = r[None, :, :] - r[:, None, :]
        near = np.sum(apart * apart, axis=2) + SOFT
        w = masses / (near * np.sqrt(near))
        along = np.sum(apart * ct[:, None, :], axis=2)
        c = w[:, :, None] * ct[:, None, :] - (3.0 * w / near * along)[:, :, None] * apart
        return np.sum(c, axis=0) - np.sum(c, axis=1)

    r, v = start
    kept = []
    for _ in range(steps):
        before = r
        v = v + 0.5 * H * pull(r)
        r = r + H * v
        kept.append((before, r))
        v = v + 0.5 * H * pull(r)
    ct_r, ct_v = 2.0 * r, np.zeros_like(v)
    while kept:
        before, after = kept.pop()
        ct_r = ct_r + pull_back(after, 0.5 * H * ct_v)
        ct_v = ct_v + H * ct_r
        ct_r = ct_r + pull_back(before, 0.5 * H * ct_v)
    return np.stack([ct_r, ct_v])


CASES = (
    Case(
        name="rk4",
        about="Runge-Kutta steps of two populations, gradient in rates and start",
        sizes=STEPS,
        quick=((1000,), (10_000,)),
        inputs=prey_and_predators,
        function=lotka_volterra,
        hand=lotka_volterra_by_hand,
        numba=lotka_volterra_in_loops,
        at_most=ONE_BY_ONE,
        tags=frozenset({"loops"}),
    ),
    Case(
        name="three-body",
        about="leapfrog steps of three bodies, gradient in places and speeds",
        sizes=STEPS[1:],
        quick=((1000,),),
        inputs=three_bodies,
        function=n_body,
        hand=n_body_by_hand,
        at_most=ONE_BY_ONE | {"casadi": 0, "pytensor": 0, "torch-compile": 0},
        tags=frozenset({"loops"}),
    ),
)
