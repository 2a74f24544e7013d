"""Activation functions: NumPy's operations, so written that no derivative overflows.

Each is a function of real numbers, element by element, of any shape; whole numbers are computed in
float64 where the function is not piecewise linear. At a kink the derivative is the one of the side
that is constant (0 for `relu` at 0), where no side is constant that of the right.
"""

from __future__ import annotations

import math

import numpy as np

from vjpkit.core.aval import Value
from vjpkit.core.errors import counted
from vjpkit.lax import logistic
from vjpkit.nn._arguments import activation, axes_of, floating, parameter
from vjpkit.numpy._arguments import named_array
from vjpkit.ops import scipy_errors
from vjpkit.ops.structural import to_dtype

__all__ = [
    "celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "identity", "leaky_relu", "log1mexp", "log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid",
    "silu", "soft_sign", "softplus", "sparse_plus", "sparse_sigmoid", "squareplus", "swish", "tanh",
]  # fmt: skip


# -------------------------------------------------------------------------------- piecewise linear


@activation
def relu(x: Value) -> Value:
    """``max(x, 0)``; the derivative at 0 is 0, to every order.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    >>> vk.jacobian(vk.nn.relu)(np.array([-1.0, 0.0, 2.0])).diagonal()
    array([0., 0., 1.])
    """
    return np.where(x <= 0, 0, x)


@activation
def relu6(x: Value) -> Value:
    """``min(max(x, 0), 6)``; the derivatives at 0 and 6 are 0.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.relu6(np.array([-1.0, 2.0, 7.0]))
    array([0., 2., 6.])
    """
    return np.where(x >= 6, 6, np.where(x <= 0, 0, x))


@activation
def leaky_relu(x: Value, negative_slope: Value = 1e-2) -> Value:
    """``x`` where it is not negative, else ``negative_slope * x``; the derivative at 0 is 1.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.leaky_relu(np.array([-1.0, 2.0]))
    array([-0.01,  2.  ])
    """
    return np.where(x >= 0, x, parameter("leaky_relu", "negative_slope", negative_slope) * x)


@activation
def hard_tanh(x: Value) -> Value:
    """``x`` from -1 to 1, else the nearer of these; its derivative at -1 and 1 is 1, as in JAX.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.hard_tanh(np.array([-3.0, 0.5, 2.0]))
    array([-1. ,  0.5,  1. ])
    """
    return np.where(x > 1, 1, np.where(x < -1, -1, x))


@activation
def hard_sigmoid(x: Value) -> Value:
    """``relu6(x + 3) / 6``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.hard_sigmoid(np.array([-4.0, 0.0, 1.5]))
    array([0.  , 0.5 , 0.75])
    """
    return relu6(x + 3) / 6


@activation
def hard_silu(x: Value) -> Value:
    """``x * hard_sigmoid(x)``; also called ``hard_swish``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.hard_silu(np.array([-4.0, 1.5, 5.0]))
    array([-0.   ,  1.125,  5.   ])
    """
    return x * hard_sigmoid(x)


@activation
def sparse_sigmoid(x: Value) -> Value:
    """``(x + 1) / 2`` between -1 and 1, else 0 or 1: the derivative of `sparse_plus`.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.sparse_sigmoid(np.array([-2.0, 0.0, 3.0]))
    array([0. , 0.5, 1. ])
    """
    return 0.5 * np.clip(x + 1, 0, 2)


@activation
def sparse_plus(x: Value) -> Value:
    """``(x + 1)² / 4`` between -1 and 1, below it 0, above it x.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.sparse_plus(np.array([-2.0, 0.0, 3.0]))
    array([0.  , 0.25, 3.  ])
    """
    x = floating("sparse_plus", x)
    inside = np.where((x <= -1) | (x >= 1), 0, x)
    return np.where(x <= -1, 0, np.where(x >= 1, x, 0.25 * (inside + 1) ** 2))


def identity(x: Value) -> Value:
    """``x`` itself.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.identity(np.array([1.0, -2.0]))
    array([ 1., -2.])
    """
    x = named_array("identity", x)
    return x[()] if type(x) is np.ndarray and not x.ndim else x


# -------------------------------------------------------------------------------- logistic and tanh


@activation
def sigmoid(x: Value) -> Value:
    """``1 / (1 + exp(-x))``, exact to rounding on both sides of 0.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    >>> vk.grad(vk.nn.sigmoid)(0.0)
    np.float64(0.25)
    """
    return logistic(floating("sigmoid", x))


@activation
def log_sigmoid(x: Value) -> Value:
    """``log(sigmoid(x)) = -softplus(-x)``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.log_sigmoid(np.array([-1000.0, 1000.0]))
    array([-1000.,    -0.])
    """
    return -softplus(-floating("log_sigmoid", x))


@activation
def softplus(x: Value) -> Value:
    """``log(1 + exp(x))``, without overflow; its derivative is the sigmoid.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.softplus(np.array([-1000.0, 0.0, 100.0])).round(3)
    array([  0.   ,   0.693, 100.   ])
    """
    x = floating("softplus", x)
    positive = x >= 0
    return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))


@activation
def silu(x: Value) -> Value:
    """``x * sigmoid(x)``; also called ``swish``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.silu(np.array([-1000.0, 0.0, 2.0])).round(3)
    array([-0.   ,  0.   ,  1.762])
    """
    return x * sigmoid(x)


@activation
def mish(x: Value) -> Value:
    """``x * tanh(softplus(x))``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.mish(np.array([-2.0, 0.0, 50.0])).round(3)
    array([-0.253,  0.   , 50.   ])
    """
    return x * np.tanh(softplus(x))


@activation
def tanh(x: Value) -> Value:
    """The hyperbolic tangent, `numpy.tanh`.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.tanh(0.0)
    np.float64(0.0)
    """
    return np.tanh(x)


@activation
def glu(x: Value, axis: int = -1) -> Value:
    """Gated linear unit: the first half of ``x`` along ``axis`` times the second's sigmoid.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.glu(np.array([2.0, 3.0, 0.0, 1000.0]))
    array([1., 3.])
    """
    (along,) = axes_of("glu", x, axis) or (0,)
    size = x.shape[along]
    if size % 2:
        raise ValueError(
            f"glu: axis {axis} of x has "
            f"{counted(size, 'element')} (shape {x.shape}); it is split into two "
            "halves, so their number must be even"
        )
    first, second = np.split(x, 2, axis=along)
    return first * sigmoid(second)


# ------------------------------------------------------------------------------------- exponential


@activation
def elu(x: Value, alpha: Value = 1.0) -> Value:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.elu(np.array([-1000.0, 0.0, 2.0]))
    array([-1.,  0.,  2.])
    """
    x = floating("elu", x)
    positive = x > 0
    return np.where(
        positive, x, parameter("elu", "alpha", alpha) * np.expm1(np.where(positive, 0, x))
    )


@activation
def celu(x: Value, alpha: Value = 1.0) -> Value:
    """``x`` where it is positive, else ``alpha * (exp(x / alpha) - 1)``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.celu(np.array([-1000.0, 0.0, 2.0]), alpha=3.0)
    array([-3.,  0.,  2.])
    """
    x = floating("celu", x)
    positive = x > 0
    alpha = parameter("celu", "alpha", alpha)
    return np.where(positive, x, alpha * np.expm1(np.where(positive, 0, x) / alpha))


@activation
def selu(x: Value) -> Value:
    """`elu`, scaled so that layers keep mean 0 and variance 1 (Klambauer et al. 2017).

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.selu(np.array([-1000.0, 1.0])).round(4)
    array([-1.7581,  1.0507])
    """
    return 1.0507009873554804934193349852946 * elu(x, 1.6732632423543772848170429916717)


@activation
def soft_sign(x: Value) -> Value:
    """``x / (1 + |x|)``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.soft_sign(np.array([-1.0, 3.0]))
    array([-0.5 ,  0.75])
    >>> vk.grad(vk.nn.soft_sign)(1e10)
    np.float64(9.999999998e-21)
    """
    x = floating("soft_sign", x)
    length = 1 + np.where(x >= 0, x, -x)
    # 1 - 1/(1 + x) has the derivative without cancellation, x/(1 + x) the value.
    far = np.where(x >= 0, 1 - 1 / length, 1 / length - 1)
    return np.where(length > 2, far, x / length)


@activation
def squareplus(x: Value, b: Value = 4.0) -> Value:
    """``(x + sqrt(x² + b)) / 2``, for negative x as ``b / (sqrt(x² + b) - x) / 2``.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.squareplus(np.array([0.0, 1.5, -1e8]))
    array([1.e+00, 2.e+00, 1.e-08])
    """
    x = floating("squareplus", x)
    b = parameter("squareplus", "b", b)
    length = np.hypot(x, math.sqrt(b)) if type(b) in (int, float) else np.sqrt(x * x + b)
    negative = x < 0
    return np.where(negative, 0.5 * b / np.where(negative, length - x, 1), 0.5 * (length + x))


@activation
def gelu(x: Value, approximate: bool = True) -> Value:
    """``x`` times the normal distribution function; with ``approximate`` by a tanh.

    The approximation (Hendrycks and Gimpel 2016), ``(1 + tanh(sqrt(2/pi) (x + 0.044715 x³))) / 2``,
    is off by at most 5e-4 and is the default, as in JAX. ``approximate=False`` needs SciPy.

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.gelu(np.array([-1.0, 0.0, 100.0])).round(4)
    array([ -0.1588,   0.    , 100.    ])
    >>> vk.nn.gelu(np.array([-1.0, 0.0, 100.0]), approximate=False).round(4)
    array([ -0.1587,   0.    , 100.    ])
    """
    x = floating("gelu", x)
    if approximate:
        near = np.clip(x, -10, 10)  # where tanh is ±1 exactly, its argument need not overflow
        cubic = near + 0.044715 * (near * near * near)
        return x * (0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * cubic)))
    return 0.5 * x * to_dtype(scipy_errors.erfc(-math.sqrt(0.5) * x), x.dtype)


@activation
def log1mexp(x: Value) -> Value:
    """``log(1 - exp(-x))`` for positive x, by the better of two formulas (Mächler 2012).

    >>> import numpy as np, vjpkit as vk
    >>> vk.nn.log1mexp(np.array([1e-20, 1.0, 50.0])).round(4)
    array([-46.0517,  -0.4587,  -0.    ])
    """
    x = floating("log1mexp", x)
    small = x < math.log(2)
    near = np.log(-np.expm1(-np.where(small, x, 1)))
    return np.where(small, near, np.log1p(-np.exp(-np.where(small, 1, x))))


hard_swish, swish = hard_silu, silu
