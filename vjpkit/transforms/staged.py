"""Programs of functions: `make_ir`, `eval_shape`, `linear_transpose`, `closure_convert`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vjpkit.core.aval import Aval, Shape, Value, aval_of
from vjpkit.core.errors import NotLinearError, at, calling_position
from vjpkit.core.ir import Equation, Program, Var, nonlinear_equation
from vjpkit.core.rows import roles
from vjpkit.core.staging import Builder, ClosedProgram, Staged
from vjpkit.core.tracer import RUNNING, Tracer
from vjpkit.pytree import (
    PyTree,
    PyTreeDef,
    flatten,
    flatten_up_to,
    flatten_with_path,
    keystr,
    structure,
)
from vjpkit.transforms.arguments import (
    Transformed,
    called,
    name_of,
    plain_array,
    require_arrays,
    require_function,
)
from vjpkit.transforms.backings import Programmed
from vjpkit.transforms.batch import Batched
from vjpkit.transforms.closures import Closure
from vjpkit.transforms.derivatives import Function
from vjpkit.transforms.linear import LinearMap
from vjpkit.transforms.sides import FLOAT0, Side

__all__ = [
    "ShapeDtypeStruct",
    "closure_convert",
    "eval_shape",
    "is_abstract",
    "linear_transpose",
    "make_ir",
    "traces_around",
]


class ShapeDtypeStruct:
    """Shape and dtype of an array, in the place of one.

    >>> import numpy as np, vjpkit as vk
    >>> vk.ShapeDtypeStruct((2, 3), np.float32)
    ShapeDtypeStruct(shape=(2, 3), dtype=float32)
    """

    __slots__ = ("aval",)

    def __init__(self, shape: Shape, dtype: Any) -> None:
        sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
        if not all(isinstance(n, int | np.integer) and n >= 0 for n in sizes):
            raise TypeError(
                f"ShapeDtypeStruct: shape must be a tuple of sizes, got {shape!r}"
                f"{at(calling_position())}"
            )
        self.aval = Aval(tuple(map(int, sizes)), dtype)

    @property
    def shape(self) -> Shape:
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return self.aval.ndim

    @property
    def size(self) -> int:
        return self.aval.size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeDtypeStruct) and self.aval == other.aval

    def __hash__(self) -> int:
        return hash(self.aval)

    def __repr__(self) -> str:
        return f"ShapeDtypeStruct(shape={self.shape}, dtype={self.dtype})"


def is_abstract(x: Value) -> bool:
    """Whether the value cannot be known: it is staged, or stands for a batch."""
    while isinstance(x, Tracer):
        if isinstance(x, Batched) or not hasattr(x, "value"):
            return True
        x = x.value
    return False


class Inside:
    """What the function reads that ``builder`` stages: abstract values of ``traces`` around it.

    Operations on these alone belong to the function, too, as long as this is entered.
    """

    def __init__(self, builder: Builder, traces: Iterable[Any]) -> None:
        self.builder = builder
        self.before = [(trace, trace.inside, trace.dirty) for trace in traces]

    def __enter__(self) -> None:
        for trace, _, _ in self.before:
            trace.inside, trace.dirty = self, True

    def __exit__(self, *error: object) -> None:
        for trace, inside, dirty in self.before:
            trace.inside, trace.dirty = inside, dirty

    @staticmethod
    def takes(x: Value) -> bool:
        """Whether its value is abstract, or what goes with a value that is none: its tangent."""
        if is_abstract(x):
            return True
        while isinstance(x, Tracer):
            beside = getattr(x, "info", None)
            if any(map(Inside.takes, beside if isinstance(beside, tuple) else (beside,))):
                return True
            x = getattr(x, "value", None)
        return False

    def taken(self, x: Tracer) -> Tracer:
        """The abstract value that stands for ``x``."""
        self.__exit__()  # what it is now is not the function's to compute
        try:
            atom = self.builder.atom(x)
        finally:
            self.__enter__()
        assert isinstance(atom, Var)
        return Staged(self.builder, atom)


def traces_around(values: Iterable[Value], functions: Iterable[Function]) -> list[Any]:
    """The open traces of some values, and of those that functions are seen to close over."""
    found: dict[int, Any] = {}
    for x in (*values, *(t for f in functions for t in Closure(f).traced)):
        while isinstance(x, Tracer):
            if x.owner.level and not x.owner.closed:
                found[id(x.owner)] = x.owner
            x = getattr(x, "value", None)
    return list(found.values())


def staged(
    label: str,
    fun: Function,
    args: tuple[PyTree, ...],
    kwargs: dict[str, Any] | None = None,
    traces: Iterable[Any] = (),
) -> tuple[ClosedProgram, PyTreeDef, list[Value]]:
    """The program of ``fun`` at arguments like these, the tree of its output, the output leaves.

    What ``fun`` computes from values of the open ``traces`` alone is part of it.
    """
    require_function(label, fun)
    leaves, tree = flatten(args)
    builder = Builder()
    inputs = []
    for i, x in enumerate(leaves):
        if not (hasattr(x, "dtype") or isinstance(x, bool | int | float | complex)):
            path = keystr(flatten_with_path(args)[0][i][0])
            raise TypeError(
                f"{label}: argument {path} is a {type(x).__name__}, which is neither an array nor "
                f"a number{at(calling_position())}.\n"
                "Pass it through a closure; arrays, numbers and ShapeDtypeStructs are staged."
            )
        if isinstance(x, np.ndarray):
            path = keystr(flatten_with_path(args)[0][i][0])
            x = plain_array(label, f"argument {path}", x)
        is_array = roles["is_array_of_no_axis"](x)
        inputs.append(roles["staged_argument"](builder, aval_of(x), is_array))
    try:
        with roles["locked"](label, fun), Inside(builder, traces):
            on = "exact" if RUNNING.get().on == "exact" else "abstract"
            y = called(builder, fun, tree.unflatten(inputs), kwargs or {}, on)
    except BaseException:
        builder.close()
        raise
    outs, out_tree = flatten(y)
    require_arrays(label, y, outs)
    return builder.finish(outs), out_tree, outs


class MakeIR(Transformed):
    """What `make_ir` returns."""

    transform = "make_ir"

    def __call__(self, *args: PyTree, **kwargs: Any) -> ClosedProgram:
        return staged(self.label, self.fun, args, kwargs)[0]


def make_ir(fun: Function) -> MakeIR:
    """The function that gives the program of ``fun`` at arguments like those it is called with.

    Arguments may be `ShapeDtypeStruct`s. The result prints as IR, evaluates when called with
    arrays, and has ``.program`` and ``.consts`` (the values it captured, its leading inputs).

    >>> import numpy as np, vjpkit as vk
    >>> vk.make_ir(lambda x: np.sin(x) * 2.0)(np.ones(3)).program.out_avals
    (f64[3],)
    """
    return MakeIR(fun)


def eval_shape(fun: Function, *args: PyTree, **kwargs: Any) -> PyTree:
    """Shapes and dtypes of what ``fun`` returns, without computing it.

    >>> import numpy as np, vjpkit as vk
    >>> vk.eval_shape(lambda x: x @ x.T, vk.ShapeDtypeStruct((2, 3), np.float32))
    ShapeDtypeStruct(shape=(2, 2), dtype=float32)
    """
    _, tree, outs = staged(f"eval_shape({name_of(fun)})", fun, args, kwargs)
    return tree.unflatten([ShapeDtypeStruct(aval_of(o).shape, aval_of(o).dtype) for o in outs])


def linear_transpose(fun: Function, *primals: PyTree) -> LinearMap:
    """The transpose of a linear function, from its program alone: <ct, f(t)> == <f^T(ct), t>.

    ``primals`` are arrays or `ShapeDtypeStruct`s; only their shapes and dtypes matter. A function
    that is not linear (an affine one is not) raises `NotLinearError` naming the first offending
    equation.

    >>> import numpy as np, vjpkit as vk
    >>> vk.linear_transpose(lambda x: 3.0 * x, 2.0)(1.0)
    (np.float64(3.0),)
    """
    label = f"linear_transpose({name_of(fun)})"
    leaves, tree = flatten(primals)
    closed, out_tree, outs = staged(label, fun, primals)
    program = _with_zeros(closed.program, outs, len(leaves))
    _require_linear(label, program)
    domain = Side.of_leaves([_example(x) for x in leaves], tree, star=True)
    codomain = Side.of_leaves([_example(o) for o in outs], out_tree, star=False)
    if FLOAT0 in {a.dtype for a in (*domain.avals, *codomain.avals)}:
        raise TypeError(f"{label}: integer or boolean arguments and outputs have no transpose")
    return LinearMap(Programmed(ClosedProgram(program, closed.captured)), domain, codomain, label).T


def _with_zeros(program: Program, outs: Sequence[Value], linear: int) -> Program:
    """The program, linear in its last inputs; outputs that are zeros from outside are its own."""
    own = Builder()
    outputs = [
        roles["fill"](own, a.aval.shape, 0, a.aval.dtype).variable if is_zero(y) else a
        for a, y in zip(program.outputs, outs, strict=True)
    ]
    return Program(program.inputs, [*own.equations, *program.equations], outputs, linear)


def is_zero(x: Value) -> bool:
    """Whether ``x`` is an array of zeros, or is staged as one."""
    if isinstance(x, Batched):
        return is_zero(x.value)
    if isinstance(x, Staged):
        made = next((e for e in x.owner.equations if x.variable in e.outputs), None)
        return made is not None and not made.inputs and made.primitive.linear_in((), made.params)
    return type(x) is np.ndarray and x.dtype.kind in "fc" and not x.any()


def _example(x: Value) -> Value:
    """Something with the shape and dtype of ``x``, scalar where it is one."""
    aval = aval_of(x)
    return (
        np.broadcast_to(np.zeros((), aval.dtype), aval.shape) if aval.shape else aval.dtype.type(0)
    )


def _require_linear(label: str, program: Any) -> None:
    offender = nonlinear_equation(program)
    if isinstance(offender, Equation):
        where = "" if offender.source is None else f"   ({offender.source})"
        words = ", ".join(map(repr, (a.aval for a in offender.inputs)))
        raise NotLinearError(
            f"{label}: the function is not linear: {offender.primitive.name} of {words} is not "
            "linear in "
            f"the arguments{where}.\nUse vjp or linearize for the transpose of its linearization."
        )
    if offender is not None:
        raise NotLinearError(
            f"{label}: the function is not linear: its output {program.outputs.index(offender)} is "
            "a "
            f"constant {offender.aval} that is not known to be zero.\nReturn only what depends on "
            "the "
            "arguments, or use vjp or linearize for the transpose of its linearization."
        )


def closure_convert(
    fun: Function, *example_args: PyTree
) -> tuple[Callable[..., PyTree], list[Value]]:
    """``fun`` with the traced values it closes over as explicit extra arguments.

    Gives ``(converted, hoisted)`` with ``converted(*args, *hoisted) == fun(*args)``; derivatives
    flow to the hoisted values.

    >>> import numpy as np, vjpkit as vk
    >>> def f(x):
    ...     converted, hoisted = vk.closure_convert(lambda y: x * y, 1.0)
    ...     return converted(2.0, *hoisted)
    >>> vk.grad(f)(3.0)
    np.float64(2.0)
    """
    label = f"closure_convert({name_of(fun)})"
    closed, out_tree, _ = staged(label, fun, example_args)
    hoisted = [c for c in closed.consts if isinstance(c, Tracer)]
    count = len(hoisted)

    tree = structure(example_args)

    def converted(*args: PyTree) -> PyTree:
        explicit, values = args[: len(args) - count], iter(args[len(args) - count :])
        leaves = flatten_up_to(tree, explicit, label, exact=True)
        consts = [next(values) if isinstance(c, Tracer) else c for c in closed.consts]
        return out_tree.unflatten(closed.program.eval(*consts, *leaves))

    converted.__name__ = name_of(fun)
    return converted, hoisted
