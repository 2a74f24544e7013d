"""Elementwise primitives: a ufunc and its partial derivatives, one class each.

The parameter names of a partial (``x``, ``y`` operands, ``out`` the result) say what a row keeps.
Constants are Python numbers, which do not decide the dtype.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vjpkit.core.primitive import Elementwise, Sample, primitive

_X = np.array([0.3, -1.2, 2.5])
_Y = np.array([1.7, 0.4, -0.6])
_POSITIVE = np.array([0.2, 1.3, 4.0])


@primitive
class add(Elementwise):
    ufunc, operator = np.add, "+"
    partials = 1, 1
    linear = ((1, 1),)

    def samples(self) -> Iterable[Sample]:
        return Sample(_X, _Y), Sample(_X, 2.0), Sample(_X.reshape(3, 1), _Y)


@primitive
class subtract(Elementwise):
    ufunc, operator = np.subtract, "-"
    partials = 1, -1
    linear = ((1, 1),)

    def samples(self) -> Iterable[Sample]:
        return Sample(_X, _Y), Sample(2.0, _X), Sample(_X, _Y.reshape(3, 1))


@primitive
class multiply(Elementwise):
    ufunc, operator = np.multiply, "*"
    partials = (lambda y: y), (lambda x: x)
    linear = (1, 0), (0, 1)

    def samples(self) -> Iterable[Sample]:
        return Sample(_X, _Y), Sample(_X, 2.0), Sample(_X.reshape(3, 1), _Y)


@primitive
class divide(Elementwise):
    ufunc, operator = np.divide, "/"
    partials = (lambda y: 1 / y), (lambda y, out: -out / y)
    singular = True
    linear = ((1, 0),)

    def samples(self) -> Iterable[Sample]:
        return Sample(_X, _Y), Sample(2.0, _X), Sample(_X, _Y.reshape(3, 1))


@primitive
class negative(Elementwise):
    ufunc, operator = np.negative, "u-"
    partials = (-1,)
    linear = ((1,),)

    def samples(self) -> Iterable[Sample]:
        return (Sample(_X),)


@primitive
class exp(Elementwise):
    ufunc = np.exp
    partials = ((lambda out: out),)

    def samples(self) -> Iterable[Sample]:
        return (Sample(_X),)


@primitive
class log(Elementwise):
    ufunc = np.log
    partials = ((lambda x: 1 / x),)
    singular = True

    def samples(self) -> Iterable[Sample]:
        return (Sample(_POSITIVE),)


@primitive
class sin(Elementwise):
    ufunc = np.sin
    partials = ((lambda x: np.cos(x)),)

    def samples(self) -> Iterable[Sample]:
        return (Sample(_X),)


@primitive
class cos(Elementwise):
    ufunc = np.cos
    partials = ((lambda x: -np.sin(x)),)

    def samples(self) -> Iterable[Sample]:
        return (Sample(_X),)


@primitive
class tanh(Elementwise):
    ufunc = np.tanh
    partials = ((lambda out: 1 - out * out),)

    def samples(self) -> Iterable[Sample]:
        return (Sample(_X),)
