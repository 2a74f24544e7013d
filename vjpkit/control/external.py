"""`numeric_vjp`: code that tracing cannot look into, with derivatives by finite differences.

`external` is the equation of such code: a Python function of plain arrays, run wherever its
operands are known. Its linear map at a point is two equations, `external_push` and
`external_pull`, which take differences when they run and are each other's transpose. A batch runs
example by example; differences of differences are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, overload

import numpy as np

from vjpkit.control.calls import Outputs, closed_over, flat_outputs
from vjpkit.control.dynamic import VectorMap, in_vectors
from vjpkit.control.higher import Higher
from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import NotDifferentiableError, TracerConversionError, at, calling_position
from vjpkit.core.primitive import Sample, primitive
from vjpkit.core.tracer import Tracer
from vjpkit.kinds.linear import zeros
from vjpkit.ops.ill_posed import warn
from vjpkit.pytree import PyTree, PyTreeDef, flatten
from vjpkit.transforms.arguments import Transformed
from vjpkit.transforms.backings import Residual, RowMap
from vjpkit.transforms.derivatives import Function

__all__ = ["External", "external", "numeric_vjp"]

METHODS = ("central", "forward", "complex")


@dataclass(frozen=True)
class Differences:
    """How a derivative is taken by differences; ``step`` is relative to max(1, largest element)."""

    method: str
    step: float | None = None

    def length(self, x: np.ndarray[Any, Any]) -> float:
        """The step at ``x``: by default where errors of truncation and of rounding meet."""
        if self.method == "complex":
            return 1e-30
        order = 1 / 3 if self.method == "central" else 1 / 2
        relative = float(np.finfo(x.dtype).eps) ** order if self.step is None else self.step
        return relative * float(np.max(np.abs(x), initial=1.0))

    def along(
        self, run: Callable[..., Outputs], values: Sequence[Any], ts: Sequence[Any]
    ) -> list[Any]:
        """The derivative along ``ts``, tangents of some of the values and None elsewhere."""
        live = [i for i, t in enumerate(ts) if t is not None]
        largest = max([float(np.max(np.abs(ts[i]), initial=0.0)) for i in live])
        if largest == 0.0 or not np.isfinite(largest):
            return [0.0 * largest * y for y in run(*values)]
        h = min([self.length(np.asarray(values[i])) for i in live]) / largest

        def moved(step: complex) -> Outputs:
            pairs = zip(values, ts, strict=True)
            return run(*[v if t is None else np.asarray(v + step * t)[()] for v, t in pairs])

        if self.method == "complex":
            return [np.imag(y) / h for y in moved(1j * h)]
        low, width = (moved(-h), 2 * h) if self.method == "central" else (moved(0.0), h)
        return [
            (b - a) / width if b.dtype.kind in "fc" else None
            for a, b in zip(low, moved(h), strict=True)
        ]


@dataclass(frozen=True, eq=False)
class External:
    """External code: a function of plain arrays to a tuple of arrays.

    ``avals`` are those of the outputs, None where they are not known before it has run;
    ``differences`` is how its derivative is taken, None where it has none; ``told`` is what has
    been said of the function.
    """

    name: str
    run: Callable[..., Outputs]
    avals: tuple[Aval, ...] | None = None
    differences: Differences | None = None
    told: set[str] = field(default_factory=set, repr=False)

    def outputs(self, xs: Sequence[Value]) -> Outputs:
        """What it returns, for copies of its arguments; checked against what is declared."""
        outs = tuple(self.run(*[x.copy() if isinstance(x, np.ndarray) else x for x in xs]))
        if any(isinstance(y, Tracer) for y in outs):
            raise closed_over(self.name)
        came = tuple(map(aval_of, outs))
        if self.avals is not None and came != self.avals:
            raise ValueError(
                f"{self.name}: the function returned {_words(came)}, but {_words(self.avals)} is "
                f"declared{at(calling_position())}.\nDeclare in result= what it returns, with the "
                "same shapes and dtypes for all arguments."
            )
        return outs

    @property
    def inexact(self) -> list[Aval]:
        """The outputs that have tangents."""
        return [a for a in self.declared if a.inexact]

    @property
    def declared(self) -> tuple[Aval, ...]:
        if self.avals is None:
            raise TracerConversionError(
                f"{self.name}: shapes and dtypes of what it returns are not known while it is "
                f"staged{at(calling_position())}.\nDeclare them: numeric_vjp(f, "
                "result=vk.ShapeDtypeStruct(shape, dtype)), or a tree of these."
            )
        return self.avals

    def tell_that_it_loops(self) -> None:
        """Warn, once for a function, that nothing of a batch runs at once."""
        if LOOPS not in self.told:
            self.told.add(LOOPS)
            warn(
                f"{self.name}: external code {LOOPS}{at(calling_position())}.\n"
                "To run a whole batch at once, write it so that it can be traced, or give it a "
                "rule for batches: vk.custom_rule(f).defvmap."
            )

    def __repr__(self) -> str:
        return f"<{self.name}>"


LOOPS = "runs example by example"


def _words(avals: Sequence[Aval]) -> str:
    return ", ".join(map(repr, avals)) or "nothing"


NO_TEXT = "a Python function has no text that could be read back"
NO_SECOND = "differences of differences are refused"


class Opaque(Higher):
    """What the three equations of external code share."""

    def batch(
        self, n: int, values: Sequence[Value], batched: Sequence[bool], **params: Any
    ) -> Outputs:
        if n == 0:
            avals = self.abstract(*map(aval_of, values), **params)
            return tuple([np.empty((0, *a.shape), a.dtype) for a in avals])
        params["call"].tell_that_it_loops()
        pairs = list(zip(values, batched, strict=True))
        rows = [self(*[v[i] if b else v for v, b in pairs], **params) for i in range(n)]
        return tuple([np.stack(column) for column in zip(*rows, strict=True)])


class External_(Opaque):
    """External code as an equation."""

    exempt: ClassVar[dict[str, str]] = {
        "text": NO_TEXT, "second": NO_SECOND, "curvature": NO_SECOND, "taylor": NO_SECOND,
        "collapsed": NO_SECOND,
    }  # fmt: skip

    @staticmethod
    def impl(*xs: Value, call: External) -> Outputs:
        return call.outputs(xs)

    def abstract(self, *avals: Aval, call: External) -> tuple[Aval, ...]:
        return call.declared

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[Outputs, RowMap]:
        call: External = params["call"]
        if call.differences is None:
            raise NotDifferentiableError(
                f"{call.name}: its derivative is asked for, but external code has none"
                f"{at(calling_position())}.\nWrap it in vk.numeric_vjp for finite differences, or "
                "give it rules with vk.custom_rule."
            )
        outs = self(*values, **params)
        known = replace(call, avals=tuple(map(aval_of, outs)))
        return outs, NumericMap(known, values, live)

    def samples(self) -> Iterable[Sample]:
        yield Sample(*_POINT, call=_EXAMPLE)


class NumericMap:
    """The linear map of external code at a point: differences, taken when it is applied."""

    def __init__(self, call: External, values: Sequence[Value], live: tuple[bool, ...]) -> None:
        self.call = call
        self.kept = list(values)
        self.params = {"call": call, "moving": live}
        self.domain = [aval_of(v).strong() for v, w in zip(values, live, strict=True) if w]

    def push(self, ts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        some = next(t for t in ts if t is not None)
        dense = [zeros(a, some) if t is None else t for t, a in zip(ts, self.domain, strict=True)]
        return external_push(*self.kept, *dense, **self.params)  # type: ignore[no-any-return]

    def pull(self, cts: Sequence[Value | None], strict: bool = False) -> Sequence[Value | None]:
        some = next(c for c in cts if c is not None)
        own = self.call.inexact
        dense = [zeros(a, some) if c is None else c for c, a in zip(cts, own, strict=True)]
        return external_pull(*self.kept, *dense, **self.params)  # type: ignore[no-any-return]

    def residuals(self) -> list[Residual]:
        return [Residual(self.call.name, v, None) for v in self.kept if hasattr(v, "dtype")]


class Difference(Opaque):
    """``external_push`` or ``external_pull``: operands are those of the code, and then vectors."""

    exempt: ClassVar[dict[str, str]] = {
        "text": NO_TEXT,
        "dtypes": "the code's results are declared for operands of their own avals",
    }
    transposed: Difference

    def vectors(self, avals: Sequence[Aval], call: External, live: Sequence[bool]) -> list[Aval]:
        """Avals of the vectors that go in, from those of the code's operands."""
        raise NotImplementedError

    def abstract(self, *avals: Aval, call: External, moving: tuple[bool, ...]) -> tuple[Aval, ...]:
        return tuple(self.transposed.vectors(avals[: len(moving)], call, moving))

    def linear_map(
        self, values: Sequence[Value], live: tuple[bool, ...], **params: Any
    ) -> tuple[Outputs, RowMap]:
        call, marks = params["call"], params["moving"]
        count = len(marks)
        if any(live[:count]):
            raise NotDifferentiableError(
                f"{call.name}: its second derivative is asked for; finite differences give the "
                f"first alone{at(calling_position())}.\nGive the function rules of its own with "
                "vk.custom_rule, or stop the derivative with vk.lax.stop_gradient."
            )
        outs = self(*values, **params)
        avals = [aval_of(v) for v in values[:count]]
        ends = [p.vectors(avals, call, marks) for p in (self, self.transposed)]
        return outs, VectorMap(self, values[:count], live[count:], ends[0], ends[1], params)

    def linear_with(self, mask: tuple[bool, ...], zeros: tuple[bool, ...], params: Any) -> bool:
        return in_vectors(mask, zeros, len(params["moving"]))

    def samples(self) -> Iterable[Sample]:
        live = (True,) * len(_POINT)
        avals = [aval_of(x) for x in _POINT]
        vectors = [np.full(a.shape, 0.5)[()] for a in self.vectors(avals, _EXAMPLE, live)]
        wrt = range(len(_POINT), len(_POINT) + len(vectors))
        yield Sample(*_POINT, *vectors, call=_EXAMPLE, moving=live, wrt=wrt)


class ExternalPush(Difference):
    """Tangents of the real outputs: one derivative along the tangents of the live operands."""

    def vectors(self, avals: Sequence[Aval], call: External, live: Sequence[bool]) -> list[Aval]:
        return [a.strong() for a, wanted in zip(avals, live, strict=True) if wanted]

    @staticmethod
    def impl(*operands: Value, call: External, moving: tuple[bool, ...]) -> Outputs:
        given = iter(operands[len(moving) :])
        ts = [next(given) if wanted else None for wanted in moving]
        assert call.differences is not None
        run = _unchecked(call)
        pushed = call.differences.along(run, operands[: len(moving)], ts)
        pairs = zip(pushed, call.declared, strict=True)
        return tuple([np.asarray(t, a.dtype)[()] for t, a in pairs if a.inexact])


class ExternalPull(Difference):
    """Cotangents of the live operands: one derivative along each of their elements."""

    def vectors(self, avals: Sequence[Aval], call: External, live: Sequence[bool]) -> list[Aval]:
        return call.inexact

    @staticmethod
    def impl(*operands: Value, call: External, moving: tuple[bool, ...]) -> Outputs:
        values, given = operands[: len(moving)], iter(operands[len(moving) :])
        cts = [next(given) if a.inexact else None for a in call.declared]
        assert call.differences is not None
        run = _unchecked(call)
        out = []
        for i in [i for i, wanted in enumerate(moving) if wanted]:
            x = np.asarray(values[i])
            ct = np.zeros(x.shape, x.dtype)
            for index in np.ndindex(x.shape):
                unit = np.zeros(x.shape, x.dtype)
                unit[index] = 1
                ts = [unit if j == i else None for j in range(len(values))]
                columns = zip(cts, call.differences.along(run, values, ts), strict=True)
                ct[index] = sum([np.sum(c * d) for c, d in columns if c is not None])
            out.append(ct[()])
        return tuple(out)


def _unchecked(call: External) -> Callable[..., Outputs]:
    """The code at points beside the operands, which may be complex where they are not."""
    return lambda *xs: replace(call, avals=None).outputs(xs)


def _example(x: Value, y: Value) -> Outputs:
    return np.sin(x) * y, np.sum(x * y)


_POINT = np.array([0.3, -1.2]), np.array([1.7, 0.4])
_EXAMPLE = External(
    "example",
    _example,
    (Aval((2,), np.float64), Aval((), np.float64)),
    Differences("complex"),
    told={LOOPS},
)

external = primitive(External_)
external_push, external_pull = primitive(ExternalPush), primitive(ExternalPull)
ExternalPush.transposed, ExternalPull.transposed = external_pull, external_push


# ----------------------------------------------------------------------------------------- the edge


class NumericVJP(Transformed):
    """What `numeric_vjp` returns."""

    transform = "numeric_vjp"

    def __init__(self, fun: Function, differences: Differences, result: PyTree) -> None:
        super().__init__(fun, method=differences.method, step=differences.step)
        self.differences = differences
        self.result = result
        self.told: set[str] = set()

    def __call__(self, *args: PyTree, **kwargs: PyTree) -> PyTree:
        everything, tree = flatten((args, kwargs))
        places = [i for i, x in enumerate(everything) if _is_array(x)]
        leaves = [everything[i] for i in places]
        self._require_real(leaves)
        trees: list[PyTreeDef] = []

        def run(*values: Value) -> Outputs:
            full = list(everything)
            for i, x in zip(places, values, strict=True):
                full[i] = x
            inner, words = tree.unflatten(full)
            outs, out_tree = flat_outputs(self.label, self.fun(*inner, **words))
            trees[:] = [out_tree]
            return tuple(outs)

        avals, known = self._declared()
        call = External(self.label, run, avals, self.differences, self.told)
        outs = external(*leaves, call=call)
        return (trees[0] if known is None else known).unflatten(outs)

    def _declared(self) -> tuple[tuple[Aval, ...] | None, PyTreeDef | None]:
        if self.result is None:
            return None, None
        structs, tree = flatten(self.result)
        return tuple([Aval(s.shape, s.dtype) for s in structs]), tree

    def _require_real(self, leaves: Sequence[Value]) -> None:
        for x in leaves:
            if aval_of(x).dtype.kind == "c":
                raise TypeError(
                    f"{self.label}: an argument is complex, {aval_of(x)}; differences are taken in "
                    f"real numbers{at(calling_position())}.\n"
                    "Pass the real and the imaginary part as two arguments."
                )


def _is_array(x: object) -> bool:
    return isinstance(x, Tracer | np.ndarray | np.generic | bool | int | float | complex)


@overload
def numeric_vjp(
    fun: Function, *, method: str = ..., step: float | None = ..., result: PyTree = ...
) -> NumericVJP: ...
@overload
def numeric_vjp(
    fun: None = ..., *, method: str = ..., step: float | None = ..., result: PyTree = ...
) -> Callable[[Function], NumericVJP]: ...
def numeric_vjp(
    fun: Function | None = None,
    *,
    method: str = "central",
    step: float | None = None,
    result: PyTree = None,
) -> NumericVJP | Callable[[Function], NumericVJP]:
    """``fun``, external code of real arrays, with derivatives by finite differences.

    ``fun`` runs on plain arrays only, whatever transforms surround it: it may call compiled code,
    read files, branch on values. Forward mode takes one derivative along the tangents, reverse mode
    one along each element of the arguments:

    =======  ==================  ==============================  ===========================
    method   calls for each      relative error in float64       what ``fun`` must be
    =======  ==================  ==============================  ===========================
    central  2                   about 1e-10 (eps to the 2/3)    three times differentiable
    forward  2                   about 1e-8 (eps to the 1/2)     twice differentiable
    complex  1                   about 1e-16                     analytic, of complex arrays
    =======  ==================  ==============================  ===========================

    ``step`` is relative to max(1, largest element). A second derivative is an error
    (`NotDifferentiableError`). A batch (`vmap`, the rows of a Jacobian) runs example by example: a
    RuntimeWarning says so, once for what `numeric_vjp` returns. Under `jit` it is one equation and
    needs ``result``, a tree of `ShapeDtypeStruct`. Arguments that are no arrays and no numbers are
    passed on; complex ones raise `TypeError`.

    >>> import math, numpy as np, vjpkit as vk
    >>> f = vk.numeric_vjp(lambda x: math.exp(x) * x)  # math.exp takes no traced values
    >>> abs(vk.grad(f)(1.0) - 2 * math.e) < 1e-9
    np.True_
    >>> scalar = vk.ShapeDtypeStruct((), float)
    >>> g = vk.numeric_vjp(lambda x: np.sinh(x), method="complex", result=scalar)
    >>> vk.jit(vk.grad(g))(1.0) == np.cosh(1.0)
    np.True_
    """
    if fun is None:
        return lambda f: numeric_vjp(f, method=method, step=step, result=result)
    if method not in METHODS:
        raise ValueError(
            f"numeric_vjp: method must be one of {', '.join(map(repr, METHODS))}, got {method!r}"
            f"{at(calling_position())}"
        )
    if step is not None and not (isinstance(step, int | float | np.number) and step > 0):
        raise ValueError(
            f"numeric_vjp: step must be a positive number, got {step!r}{at(calling_position())}"
        )
    for s in flatten(result)[0]:
        if not (hasattr(s, "shape") and hasattr(s, "dtype")):
            raise TypeError(
                f"numeric_vjp: result must be a tree of ShapeDtypeStruct, got a {type(s).__name__}"
                f"{at(calling_position())}.\nvk.ShapeDtypeStruct(shape, dtype) describes an array."
            )
    return NumericVJP(fun, Differences(method, step), result)
