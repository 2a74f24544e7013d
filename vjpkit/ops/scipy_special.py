"""What SciPy's elementwise functions share; the families are in modules of their own.

SciPy is optional and is imported when the first value is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, cached_property
from importlib import import_module
from typing import Any, ClassVar, NoReturn

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, at, calling_position
from vjpkit.core.primitive import PRIMITIVES, Primitive, Sample
from vjpkit.kinds import Elementwise
from vjpkit.kinds.elementwise import weak_type
from vjpkit.ops.structural import to_dtype

_X = np.array([0.3, -1.2, 2.5])

FAMILIES = (
    "scipy_bessel",
    "scipy_distributions",
    "scipy_elementary",
    "scipy_errors",
    "scipy_gamma",
    "scipy_integrals",
    "scipy_inverses",
    "scipy_pairs",
    "scipy_polynomials",
    "scipy_spherical",
)
"""The modules of `vjpkit.ops` that declare them."""


@cache
def special() -> Any:
    """`scipy.special`, or an error that says how to install it."""
    try:
        from scipy import special
    except ImportError:
        raise ImportError(
            "this function is SciPy's, which is not installed: pip install 'vjpkit[scipy]'"
            f"{at(calling_position())}"
        ) from None
    return special


def ufunc_of_scipy(name: str) -> Any:
    """SciPy's ufunc; its array API dispatch, where it is switched on, wraps them in functions."""
    found = getattr(special()._ufuncs if name.startswith("_") else special(), name)
    return getattr(found, "__wrapped__", found)


class Part:
    """One of the results of a ufunc that has several."""

    def __init__(self, ufunc: np.ufunc, place: int) -> None:
        self.ufunc, self.place = ufunc, place
        self.nin, self.nout, self.__name__ = ufunc.nin, ufunc.nout, f"{ufunc.__name__}_{place}"

    def __call__(self, *xs: Value) -> Value:
        return self.ufunc(*xs)[self.place]

    def resolve_dtypes(self, dtypes: Sequence[Any]) -> tuple[Any, ...]:
        """As of a ufunc with one result."""
        given = dtypes[: self.nin]
        found = self.ufunc.resolve_dtypes((*given, *[None] * self.nout))
        return *found[: self.nin], found[self.nin + self.place]


class SciPyFunction(Elementwise):
    """A ufunc of `scipy.special`, imported when it is first computed; in double precision at most.

    ``points`` are operands at which it is checked.
    """

    function: ClassVar[str] = ""
    """SciPy's name, where it is not the primitive's own."""
    place: ClassVar[int | None] = None
    """Which result it is, of a function that has several."""
    own: ClassVar[bool] = False
    """Whether it is a function of ours in terms of SciPy's, which has none of this name."""
    points: ClassVar[Sequence[Any]] = (_X,)
    real: ClassVar[bool] = False
    """Whether its derivative is known for real numbers only."""
    branches: ClassVar[dict[str, str]] = {}
    """Laws that its branch cuts break, and why."""

    def __init__(self) -> None:
        Primitive.__init__(self)
        self.types = {}
        self.arity = len(self.partials)

    @cached_property
    def ufunc(self) -> Any:  # type: ignore[override]  # known later than the class
        """SciPy's function."""
        ufunc = ufunc_of_scipy(self.function or self.name)
        return ufunc if self.place is None else Part(ufunc, self.place)

    @cached_property
    def impl(self) -> Any:  # type: ignore[override]  # known later than the class
        """SciPy's value."""
        return self.real_value if self.real else self.ufunc

    def real_value(self, *xs: Value) -> Value:
        """The value of real numbers."""
        self.require_real([aval_of(x) for x in xs])
        return self.ufunc(*xs)

    def require_real(self, avals: Sequence[Aval]) -> None:
        if self.real and any(a.dtype.kind == "c" for a in avals):
            raise TypeError(
                f"scipy.special.{self.function or self.name} of complex numbers has no derivative "
                f"here{at(calling_position())}"
            )

    def abstract(self, *avals: Aval, **params: Any) -> Aval:
        self.require_real(avals)
        return super().abstract(*avals, **params)

    def __call__(self, *xs: Value, **params: Any) -> Value:
        return self.apply(*self.as_computed(xs))

    def as_computed(self, xs: Sequence[Value]) -> Sequence[Value]:
        """Operands as SciPy casts them, so that no partial derivative is coarser than the value."""
        if self.arity == 1:
            return xs
        avals = [aval_of(x) for x in xs]
        kinds = [weak_type(a) if a.weak else a.dtype for a in avals]
        loop = self.ufunc.resolve_dtypes((*kinds, None))
        return [x if k is d else to_dtype(x, d) for x, k, d in zip(xs, kinds, loop, strict=False)]

    def samples(self) -> Iterable[Sample]:
        xs = self.points
        wrt = [i for i in range(self.arity) if i not in self.unknown]
        yield Sample(*xs, wrt=wrt)
        yield Sample(*[np.reshape(x, (1, -1))[:0] for x in xs], wrt=wrt)
        yield Sample(*[np.reshape(x, -1)[0] for x in xs], wrt=wrt)
        if self.arity > 1:
            yield Sample(np.reshape(xs[0], (-1, 1)), *xs[1:], wrt=wrt)

    @property
    def exempt(self) -> dict[str, str]:  # type: ignore[override]  # follows from the partials
        """Laws that cannot hold: those that need every derivative."""
        missing = {"annihilation": "one operand has no known derivative"} if self.unknown else {}
        return missing | self.branches

    @property
    def unknown(self) -> set[int]:
        """Operands in which no derivative is known."""
        return {i for i, p in enumerate(self.partials) if p in _UNKNOWN}

    @property
    def whole(self) -> set[int]:
        """Operands that are whole numbers."""
        return {i for i, p in enumerate(self.partials) if p in _WHOLE}


_UNKNOWN: set[Any] = set()
_WHOLE: set[Any] = set()


def unknown(function: str, operand: str) -> Callable[[Value], Value]:
    """A partial derivative without a formula: it raises where it is needed."""

    return refused(
        f"scipy.special.{function}: there is no formula for the derivative in {operand}",
        f"vk.numeric_vjp(scipy.special.{function}) takes it by differences; pass "
        f"vk.lax.stop_gradient({operand}) where it does not matter.",
    )


def whole(function: str, operand: str) -> Callable[[Value], Value]:
    """What stands for a partial derivative in a whole number: it raises where it is needed."""
    refuse = refused(
        f"scipy.special.{function}: {operand} is a whole number, in which there is no derivative",
        f"Pass an integer, or vk.lax.stop_gradient({operand}).",
    )
    _WHOLE.add(refuse)
    return refuse


def refused(why: str, way: str) -> Callable[[Value], Value]:
    def refuse(t: Value) -> NoReturn:
        raise NotDifferentiableError(f"{why}{at(calling_position())}\n{way}")

    _UNKNOWN.add(refuse)
    return refuse


def by_series(
    x: Value, radius: float, coefficients: Sequence[float], far: Callable[[Value], Value]
) -> Value:
    """A power series of ``x`` within the radius of 0, where ``far`` would cancel; else ``far``."""
    near = np.abs(x) < radius
    inside = np.where(near, x, 0)
    series: Value = 0.0
    for coefficient in reversed(coefficients):
        series = series * inside + coefficient
    return np.where(near, series, far(np.where(near, 1, x)))


def by_ufunc(ufunc: np.ufunc) -> Callable[..., Value] | None:
    """What computes one of SciPy's ufuncs on traced values, if something does."""
    if ufunc.__name__ in ("cbrt", "exp2", "expm1", "log1p"):  # NumPy has them too
        return getattr(np, ufunc.__name__) if ufunc_of_scipy(ufunc.__name__) is ufunc else None
    parts = by_parts().get(ufunc.__name__)
    if parts is not None:
        return lambda *xs: tuple([part(*xs) for part in parts])
    found = by_name().get(ufunc.__name__.lstrip("_"))
    return found if found is not None and found.ufunc is ufunc else None


@cache
def by_name() -> dict[str, SciPyFunction]:
    """SciPy's functions under SciPy's names."""
    for name in FAMILIES:
        import_module(f"vjpkit.ops.{name}")
    every = [p for p in PRIMITIVES.values() if isinstance(p, SciPyFunction)]
    return {(p.function or p.name).lstrip("_"): p for p in every if p.place is None and not p.own}


@cache
def by_parts() -> dict[str, list[SciPyFunction]]:
    """The results of SciPy's functions that have several, under SciPy's names."""
    by_name()
    every = [p for p in PRIMITIVES.values() if isinstance(p, SciPyFunction)]
    found: dict[str, list[SciPyFunction]] = {}
    for p in sorted([p for p in every if p.place is not None], key=lambda p: p.place or 0):
        found.setdefault(p.function, []).append(p)
    return found
