"""Statistical models and networks: GMM and LSTM as ADBench defines them, a convolution, an MLP."""

from __future__ import annotations

from itertools import pairwise
from math import lgamma, log, pi
from typing import Any

import numpy as np

from benchmarks.case import Case, Size, Tree
from benchmarks.cases.matrices import mlp, network

# A Gaussian mixture ------------------------------------------------------------------------------


def mixture(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    """Weights, means and packed inverse factors; points; where an entry of L' is packed."""
    points, d, k = size
    parameters = {
        "alphas": generator.normal(size=k),
        "means": generator.uniform(size=(k, d)),
        "log_diagonals": 0.1 * generator.normal(size=(k, d)),
        "lower": 0.1 * generator.normal(size=(k, d * (d - 1) // 2)),
    }
    packed = np.zeros((d, d), int)
    packed[np.tril_indices(d, -1)[::-1]] = 1 + np.arange(d * (d - 1) // 2)
    return parameters, generator.normal(size=(points, d)), packed, np.zeros((k, 1))


GAMMA, M = 1.0, 0


def gmm(np: Any, p: Tree, x: Any, packed: Any, zero: Any) -> Any:
    n, (k, d) = x.shape[0], p["means"].shape
    diagonals = np.exp(p["log_diagonals"])
    sums = np.sum(p["log_diagonals"], axis=1)
    turned = np.concatenate([zero, p["lower"]], axis=1)[:, packed]
    centred = x[None, :, :] - p["means"][:, None, :]
    y = centred * diagonals[:, None, :] + np.matmul(centred, turned)
    terms = (p["alphas"] + sums)[:, None] - 0.5 * np.sum(y * y, axis=2)
    top = np.max(terms, axis=0)
    slse = np.sum(top + np.log(np.sum(np.exp(terms - top), axis=0)))
    highest = np.max(p["alphas"])
    total = highest + np.log(np.sum(np.exp(p["alphas"] - highest)))
    squares = np.sum(diagonals * diagonals) + np.sum(p["lower"] * p["lower"])
    prior = 0.5 * GAMMA**2 * squares - M * np.sum(sums) - k * wishart(d)
    return slse - n * total + prior - 0.5 * n * d * log(2 * pi)


def wishart(d: int) -> float:
    """The constant of the prior."""
    n = d + M + 1
    gammas = 0.25 * d * (d - 1) * log(pi) + sum(lgamma(0.5 * (n - j)) for j in range(d))
    return n * d * (log(GAMMA) - 0.5 * log(2)) - gammas


def gmm_by_hand(p: Tree, x: np.ndarray, packed: np.ndarray, zero: np.ndarray) -> Tree:
    diagonals = np.exp(p["log_diagonals"])
    turned = np.concatenate([zero, p["lower"]], axis=1)[:, packed]
    centred = x[None, :, :] - p["means"][:, None, :]
    y = centred * diagonals[:, None, :] + centred @ turned
    terms = (p["alphas"] + np.sum(p["log_diagonals"], axis=1))[:, None]
    terms = terms - 0.5 * np.sum(y * y, axis=2)
    shares = np.exp(terms - np.max(terms, axis=0))
    shares /= np.sum(shares, axis=0)
    weights = np.exp(p["alphas"] - np.max(p["alphas"]))
    weights /= np.sum(weights)
    y *= -shares[:, :, None]
    per_component = np.sum(shares, axis=1)
    ct_diagonals = np.sum(y * centred, axis=1) + GAMMA**2 * diagonals
    ct_turned = np.swapaxes(centred, 1, 2) @ y
    ct_centred = y * diagonals[:, None, :] + y @ np.swapaxes(turned, 1, 2)
    rows, columns = np.nonzero(packed)
    lower = np.empty_like(p["lower"])
    lower[:, packed[rows, columns] - 1] = ct_turned[:, rows, columns]
    return {
        "alphas": per_component - len(x) * weights,
        "means": -np.sum(ct_centred, axis=1),
        "log_diagonals": ct_diagonals * diagonals + per_component[:, None] - M,
        "lower": lower + GAMMA**2 * p["lower"],
    }


# A recurrent network -----------------------------------------------------------------------------


def characters(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    length, layers = size
    bits = 14
    parameters = {
        "main": 0.3 * generator.normal(size=(layers, 2, 4, bits)),
        "extra": 0.3 * generator.normal(size=(3, bits)),
    }
    state = generator.normal(size=(2, layers, bits))
    return parameters, state, (generator.uniform(size=(length, bits)) > 0.5).astype(float)


def lstm(np: Any, p: Tree, state: Any, sequence: Any) -> Any:
    """The mean loss of predicting each character from those before it; gates are diagonal."""
    main, extra = p["main"], p["extra"]
    layers = main.shape[0]

    def sigmoid(x):
        return 1.0 / (1.0 + np.exp(-x))

    def step(carry, pair):
        loss, *cells = carry
        x, after = pair[0] * extra[0], []
        for i in range(layers):
            (w, b), hidden, cell = main[i], cells[2 * i], cells[2 * i + 1]
            forget, ingate = sigmoid(x * w[0] + b[0]), sigmoid(hidden * w[1] + b[1])
            outgate, change = sigmoid(x * w[2] + b[2]), np.tanh(hidden * w[3] + b[3])
            cell = cell * forget + ingate * change
            x = outgate * np.tanh(cell)
            after += [x, cell]
        y = x * extra[1] + extra[2]
        y = y - np.log(np.sum(np.exp(y)) + 2.0)
        return (loss + np.sum(pair[1] * y), *after)

    cells = [state[part, i] for i in range(layers) for part in (0, 1)]
    pairs = np.stack([sequence[:-1], sequence[1:]], axis=1)
    loss, *_ = np.loop(step, (0.0 * np.sum(extra[0]), *cells), pairs)
    return -loss / (sequence.shape[0] * sequence.shape[1])


# A convolution -----------------------------------------------------------------------------------


def pictures(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    images, side, channels, filters = size
    kernel = generator.normal(size=(3, 3, channels, filters)) / 3.0
    return kernel, generator.normal(size=(images, side, side, channels))


def convolution(np: Any, kernel: Any, x: Any) -> Any:
    """A 3 x 3 convolution as nine products, a softplus-like bend and a sum of squares."""
    n = x.shape[1] - 2
    out = 0.0
    for i in range(3):
        for j in range(3):
            out = out + np.matmul(x[:, i : i + n, j : j + n], kernel[i, j])
    out = np.tanh(out)
    return np.sum(out * out)


def convolution_by_hand(kernel: np.ndarray, x: np.ndarray) -> np.ndarray:
    n = x.shape[1] - 2
    out = x[:, :n, :n] @ kernel[0, 0]
    for i, j in list(np.ndindex(3, 3))[1:]:
        out += x[:, i : i + n, j : j + n] @ kernel[i, j]
    np.tanh(out, out=out)
    ct = (2.0 * out * (1.0 - out * out)).reshape(-1, out.shape[-1])
    ct_kernel = np.empty_like(kernel)
    for i, j in np.ndindex(3, 3):
        ct_kernel[i, j] = x[:, i : i + n, j : j + n].reshape(-1, x.shape[-1]).T @ ct
    return ct_kernel


# A deep network ----------------------------------------------------------------------------------


def deep_network(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    batch, *widths = size
    parameters = {}
    for i, (a, b) in enumerate(pairwise(widths), start=1):
        parameters[f"w{i}"] = generator.normal(size=(a, b)) / np.sqrt(a)
        parameters[f"b{i}"] = 0.1 * generator.normal(size=b)
    inputs = generator.normal(size=(batch, widths[0]))
    return parameters, inputs, np.eye(widths[-1])[generator.integers(0, widths[-1], batch)]


def deep(np: Any, p: Tree, x: Any, classes: Any) -> Any:
    """Two hidden layers of tanh, softmax cross entropy."""
    h = np.tanh(np.matmul(x, p["w1"]) + p["b1"])
    h = np.tanh(np.matmul(h, p["w2"]) + p["b2"])
    y = np.matmul(h, p["w3"]) + p["b3"]
    y = y - np.max(y, axis=1, keepdims=True)
    y = y - np.log(np.sum(np.exp(y), axis=1, keepdims=True))
    return -np.sum(classes * y) / x.shape[0]


def deep_by_hand(p: Tree, x: np.ndarray, classes: np.ndarray) -> Tree:
    g = np.tanh(x @ p["w1"] + p["b1"])
    h = np.tanh(g @ p["w2"] + p["b2"])
    e = h @ p["w3"] + p["b3"]
    e = np.exp(e - np.max(e, axis=1, keepdims=True))
    c3 = (e / np.sum(e, axis=1, keepdims=True) - classes) / len(x)
    c2 = (c3 @ p["w3"].T) * (1.0 - h * h)
    c1 = (c2 @ p["w2"].T) * (1.0 - g * g)
    return {
        "w1": x.T @ c1, "w2": g.T @ c2, "w3": h.T @ c3,
        "b1": c1.sum(0), "b2": c2.sum(0), "b3": c3.sum(0),
    }  # fmt: skip


def deep_and_direction(size: Size, generator: np.random.Generator) -> tuple[Any, ...]:
    problem = deep_network(size, generator)
    return *problem, {name: generator.normal(size=w.shape) for name, w in problem[0].items()}


# A gradient per example --------------------------------------------------------------------------


def example(np: Any, p: Tree, x: Any, wanted: Any) -> Any:
    return mlp(np, p, x, wanted)


def examples_by_hand(p: Tree, x: np.ndarray, wanted: np.ndarray) -> Tree:
    h = np.tanh(x @ p["w1"] + p["b1"])
    ct = 2.0 * (h @ p["w2"] + p["b2"] - wanted)
    inner = (ct @ p["w2"].T) * (1.0 - h * h)
    w1, w2 = x[:, :, None] * inner[:, None, :], h[:, :, None] * ct[:, None, :]
    return {"w1": w1, "b1": inner, "w2": w2, "b2": ct}


MODELS = frozenset({"models"})
GMM_SIZES = ((1000, 2, 5), (1000, 10, 25), (1000, 64, 50))
DEEP = ((256, 784, 512, 512, 10),)

CASES = (
    Case(
        name="gmm",
        about="Gaussian mixture with a Wishart prior; points x dimensions x components",
        sizes=GMM_SIZES,
        quick=GMM_SIZES[1:2],
        inputs=mixture,
        function=gmm,
        hand=gmm_by_hand,
        tags=MODELS,
    ),
    Case(
        name="lstm",
        about="a character model of diagonal LSTM layers; characters x layers",
        sizes=((1024, 2), (4096, 2), (1024, 4)),
        quick=((1024, 2),),
        inputs=characters,
        function=lstm,
        at_most={"jax-eager": 0, "torch-compile": 0, "pytensor": 0, "casadi": 0, "mygrad": 0},
        tags=MODELS,
    ),
    Case(
        name="convolution",
        about="3 x 3 kernels, gradient in these; images x side x channels x filters",
        sizes=((8, 16, 8, 16), (32, 32, 16, 32)),
        quick=((8, 16, 8, 16),),
        inputs=pictures,
        function=convolution,
        hand=convolution_by_hand,
        tags=MODELS,
    ),
    Case(
        name="deep",
        about="two hidden tanh layers, softmax cross entropy; batch x widths",
        sizes=DEEP,
        quick=DEEP,
        inputs=deep_network,
        function=deep,
        hand=deep_by_hand,
        tags=MODELS,
    ),
    Case(
        name="deep-curvature",
        about="the Hessian of the same times a direction",
        sizes=DEEP,
        quick=DEEP,
        inputs=deep_and_direction,
        function=lambda np, p, x, classes, direction: deep(np, p, x, classes),
        derivative="product",
        tags=MODELS,
    ),
    Case(
        name="per-example",
        about="a small network's gradient for each example; batch x in x hidden x out",
        sizes=((32, 64, 32, 10), (256, 64, 32, 10)),
        quick=((32, 64, 32, 10),),
        inputs=network,
        function=example,
        hand=examples_by_hand,
        derivative="examples",
        tags=MODELS,
    ),
)
