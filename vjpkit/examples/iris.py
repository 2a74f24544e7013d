"""Softmax regression on Fisher's iris: what ``python -m vjpkit`` differentiates.

Plain NumPy; nothing below knows of vjpkit.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]

DATA = Path(__file__).with_name("iris.csv")


def loss(weights: Floats, bias: Floats, features: Floats, species: Labels) -> Any:
    """Mean cross-entropy of softmax regression, with a ridge penalty on the weights."""
    scores = features @ weights + bias
    scores = scores - scores.max(axis=1, keepdims=True)  # so that exp cannot overflow
    log_total = np.log(np.exp(scores).sum(axis=1))
    log_likelihood = scores[np.arange(len(species)), species] - log_total
    return 0.01 * np.sum(weights**2) - log_likelihood.mean()


def load() -> tuple[Floats, Labels]:
    """Features (150, 4) in centimetres, and the number 0, 1, 2 of each flower's species."""
    lines = DATA.read_text(encoding="utf-8").splitlines()
    table = np.array([line.split(",") for line in lines if not line.startswith("#")])
    _, species = np.unique(table[:, 4], return_inverse=True)
    return table[:, :4].astype(np.float64), species


def example_args() -> tuple[Floats, Floats, Floats, Labels]:
    """A rough guess at the weights (petals grow from setosa to virginica), and the data."""
    weights = np.array(
        [
            [0.3, 0.1, -0.4],
            [0.6, -0.2, -0.4],
            [-0.9, 0.1, 0.8],
            [-0.4, -0.2, 0.6],
        ]
    )
    return weights, np.zeros(3), *load()
