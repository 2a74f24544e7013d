"""`jax.nn`'s functions over NumPy: activations, softmax and its relatives, one-hot codes.

They are compositions of NumPy's functions, so every transform goes through them, and so written
that neither values nor derivatives (to second order) overflow or become nan at large arguments.
Arrays keep their precision; whole numbers are computed in float64.

>>> import numpy as np, vjpkit as vk
>>> vk.grad(lambda x: vk.nn.softplus(x))(np.float64(-800.0))
np.float64(0.0)
"""

from vjpkit.nn import initializers
from vjpkit.nn._activations import (
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    log1mexp,
    log_sigmoid,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softplus,
    sparse_plus,
    sparse_sigmoid,
    squareplus,
    swish,
    tanh,
)
from vjpkit.nn._attention import dot_product_attention
from vjpkit.nn._normalization import (
    log_softmax,
    logmeanexp,
    logsumexp,
    one_hot,
    softmax,
    standardize,
)

__all__ = [
    "celu",
    "dot_product_attention",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "initializers",
    "leaky_relu",
    "log1mexp",
    "log_sigmoid",
    "log_softmax",
    "logmeanexp",
    "logsumexp",
    "mish",
    "one_hot",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "standardize",
    "swish",
    "tanh",
]
