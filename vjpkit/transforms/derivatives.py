"""Gradients, pullbacks and pushforwards: `grad`, `value_and_grad`, `vjp`, `jvp`, `linearize`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import at, calling_position
from vjpkit.core.rows import (
    COPY_LIMIT,
    Eager,
    Guard,
    Row,
    Rows,
    filled_like,
    new_slots,
    pull_once,
    roles,
)
from vjpkit.core.staging import builder_of, pull_staged
from vjpkit.core.tracer import Tracer
from vjpkit.kinds.silence import restore, silence
from vjpkit.ops.updates import copy_with_layout
from vjpkit.pytree import PyTree, flatten, flatten_with_path, keystr, tree_map
from vjpkit.transforms.arguments import (
    Transformed,
    called,
    float_leaf,
    name_of,
    read_arguments,
    require_arrays,
    require_function,
    resolve_argnums,
    scalar_output,
    what,
)
from vjpkit.transforms.backings import Recorded
from vjpkit.transforms.forms import BARE, Form, form_of, walked
from vjpkit.transforms.forward import Dual, Duals
from vjpkit.transforms.linear import LinearMap
from vjpkit.transforms.sides import FLOAT0, Side, fresh, tangent_aval

__all__ = ["Function", "grad", "hvp", "jvp", "linearize", "linearized", "value_and_grad", "vjp"]

Function = Callable[..., PyTree]


_FIRST = (0,)
_ndarray = np.ndarray


class ValueAndGrad(Transformed):
    """What `value_and_grad` and `grad` return: calls the function once, pulls 1 back."""

    transform = "value_and_grad"

    def __init__(
        self,
        fun: Function,
        argnums: Any,
        has_aux: bool,
        holomorphic: bool,
        allow_int: bool,
        strict: bool,
    ) -> None:
        super().__init__(
            fun,
            argnums=argnums,
            has_aux=has_aux,
            holomorphic=holomorphic,
            allow_int=allow_int,
            strict=strict,
        )
        self.argnums = argnums
        self.several = isinstance(argnums, tuple | list)
        self.has_aux = has_aux
        self.holomorphic = holomorphic
        self.allow_int = allow_int
        self.strict = strict
        self.forms: dict[int, Form] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "forms": {}}

    def __call__(self, *args: PyTree, **kwargs: Any) -> Any:
        value, aux, gradient = self.run(args, kwargs)
        return ((value, aux) if self.has_aux else value), gradient

    def run(self, args: tuple[PyTree, ...], kwargs: dict[str, Any]) -> tuple[Value, PyTree, PyTree]:
        """Value, aux and gradient."""
        label = self.label
        numbers: tuple[int, ...] = _FIRST
        if type(self.argnums) is not int or self.argnums or not args:
            numbers = resolve_argnums(label, self.argnums, len(args))
        trace = Rows(label)
        new = trace.new
        read: list[tuple[list[Value], Form]] = []
        arrays = True
        traced = list(args)
        for n in numbers:
            form = self.forms.get(n, BARE)
            leaves = form.read(args[n])
            if leaves is not None:
                inputs = [Eager(x, trace, new()) for x in leaves]
            else:
                arrays = False
                leaves, form = self.learn(label, args, n)
                inputs = [trace.argument(x) if is_differentiable(x) else x for x in leaves]
            read.append((leaves, form))
            traced[n] = form.build(inputs)
        if self.holomorphic:
            _require_complex(label, read)
        count = trace.new()  # how many slots the inputs took
        y, rows = recorded(trace, self.fun, traced, kwargs)
        inputs = traced = []  # so that nothing but the rows holds values
        aux = None
        if self.has_aux:
            y, aux = _split_aux(label, y)
            aux = tree_map(trace.lower, aux)
        y, k, value = _lowered(trace, y)
        if trace.lifted:
            trace.restore()
        if type(value) is not np.float64 or self.holomorphic:
            scalar_output(label, y, None if value is None else aval_of(value), self.holomorphic)
        cts = new_slots(trace.new(), self.strict)
        if k is not None:
            cts[k] = filled_like(value, 1)
        for guard in trace.guards.values():
            guard.check()
        y = trace = None  # type: ignore[assignment]  # the walk frees what it has used
        builder = None if type(value) is np.float64 else builder_of([value])
        if builder is None:
            token = silence()
            try:
                pulled = pull_once(rows, cts, range(count))
            finally:
                restore(token)
        else:
            from vjpkit.backends import collector_paused

            with collector_paused():
                pulled = pull_staged(builder, rows, cts, range(count))
        return value, aux, self._gradient(read, pulled, arrays)

    def learn(self, label: str, args: tuple[PyTree, ...], n: int) -> tuple[list[Value], Form]:
        """The leaves of argument ``n``, all fit for differentiation, and what builds its tree.

        A structure that comes a second time is worth code of its own.
        """
        ((leaves, tree),) = read_arguments(label, args, (n,), self.allow_int)
        known = self.forms.get(n, BARE).tree
        form = self.forms[n] = form_of(tree) if tree == known else walked(tree)
        return leaves, form

    def _gradient(
        self, read: Sequence[tuple[list[Value], Form]], pulled: list[Value | None], arrays: bool
    ) -> PyTree:
        """The cotangents of the inputs, all ``arrays`` or not, in the trees of the arguments."""
        if not (arrays and own_memory(pulled)):
            pulled = self._results([x for leaves, _ in read for x in leaves], iter(pulled))
        gradients = []
        start = 0
        for leaves, form in read:
            end = start + len(leaves)
            gradients.append(form.build(pulled[start:end]))
            start = end
        return tuple(gradients) if self.several else gradients[0]

    def _results(self, leaves: Sequence[Value], pulled: Iterator[Value | None]) -> list[Value]:
        """A cotangent for each leaf as the user gets it."""
        taken: set[int] = set()
        return [
            np.zeros(np.shape(x), FLOAT0)
            if self.allow_int and not is_differentiable(x)
            else result_cotangent(x, next(pulled), taken)
            for x in leaves
        ]


def own_memory(cts: Sequence[Value | None]) -> bool:
    """Whether all are arrays and each has memory of its own."""
    for ct in cts:
        if type(ct) is not _ndarray or ct.base is not None:
            return False
    return len(set(map(id, cts))) == len(cts)


def recorded(
    trace: Rows, fun: Function, args: Sequence[PyTree], kwargs: dict[str, Any]
) -> tuple[PyTree, list[Row]]:
    """What ``fun`` returns and the rows it left; an exception leaves nothing behind."""
    try:
        y = called(trace, fun, args, kwargs)
    except BaseException:
        trace.close()
        trace.restore()
        raise
    return y, trace.close()


class Grad(ValueAndGrad):
    """What `grad` returns."""

    transform = "grad"

    def __call__(self, *args: PyTree, **kwargs: Any) -> Any:
        _, aux, gradient = self.run(args, kwargs)
        return (gradient, aux) if self.has_aux else gradient


def result_cotangent(x: Value, ct: Value | None, taken: set[int]) -> Value:
    """The cotangent of the primal ``x`` as the user gets it; zero where none arrived."""
    if isinstance(x, Tracer):
        return filled_like(x, 0) if ct is None else ct
    return fresh(ct, aval_of(x), type(x) is not np.ndarray, taken)


def is_differentiable(x: Value) -> bool:
    """Whether a leaf is traced (integers are passed through as they are)."""
    if type(x) is np.ndarray:
        return x.dtype.kind in "fc"
    return type(x) in (float, complex) or (type(x) is not int and x.dtype.kind in "fc")


def _require_complex(label: str, read: Sequence[tuple[list[Value], Form]]) -> None:
    for leaves, _ in read:
        for x in leaves:
            if aval_of(x).dtype.kind != "c":
                raise TypeError(
                    f"{label}: holomorphic=True needs complex arguments, got {aval_of(x)}; "
                    "cast with x.astype(complex)"
                )


def _split_aux(label: str, y: Any) -> tuple[Value, PyTree]:
    if not isinstance(y, tuple) or len(y) != 2:
        raise TypeError(
            f"{label}: with has_aux=True the function must return a pair (output, aux), "
            f"got {what(y)}{at(calling_position())}"
        )
    return y


def _lowered(trace: Rows, y: Any) -> tuple[Any, int | None, Value | None]:
    """An output, its slot, and its value (None for what is not an array or number)."""
    if type(y) is Eager and y.owner is trace and not trace.dirty:
        return y, y.slot, y.value
    if isinstance(y, Tracer):
        return y, trace.slot_of(y), trace.lower(y)
    if isinstance(y, bool | int | float | complex | np.ndarray | np.generic) or hasattr(y, "dtype"):
        return y, None, y
    return y, None, None


@overload
def value_and_grad(
    fun: Function, argnums: int | Sequence[int] = ..., has_aux: bool = ..., holomorphic: bool = ...,
    allow_int: bool = ..., *, strict: bool = ...,
) -> ValueAndGrad: ...  # fmt: skip
@overload
def value_and_grad(
    fun: None = ..., argnums: int | Sequence[int] = ..., has_aux: bool = ...,
    holomorphic: bool = ..., allow_int: bool = ..., *, strict: bool = ...,
) -> Callable[[Function], ValueAndGrad]: ...  # fmt: skip
def value_and_grad(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    strict: bool = False,
) -> ValueAndGrad | Callable[[Function], ValueAndGrad]:
    """The function that gives a scalar function's value and its gradient.

    ``(value, gradient)``, or ``((value, aux), gradient)`` with ``has_aux``. See `grad`.

    >>> import numpy as np, vjpkit as vk
    >>> vk.value_and_grad(lambda x: np.sum(x * x))(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """
    if fun is None:
        return lambda f: ValueAndGrad(f, argnums, has_aux, holomorphic, allow_int, strict)
    return ValueAndGrad(fun, argnums, has_aux, holomorphic, allow_int, strict)


@overload
def grad(
    fun: Function, argnums: int | Sequence[int] = ..., has_aux: bool = ..., holomorphic: bool = ...,
    allow_int: bool = ..., *, strict: bool = ...,
) -> Grad: ...  # fmt: skip
@overload
def grad(
    fun: None = ..., argnums: int | Sequence[int] = ..., has_aux: bool = ...,
    holomorphic: bool = ..., allow_int: bool = ..., *, strict: bool = ...,
) -> Callable[[Function], Grad]: ...  # fmt: skip
def grad(
    fun: Function | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    strict: bool = False,
) -> Grad | Callable[[Function], Grad]:
    """The gradient of a scalar function: the pullback of 1.

    ``fun`` takes arrays, numbers and trees of them and returns a real floating scalar of shape
    ``()``. The gradient has the tree, shapes and dtypes of the chosen argument: an int ``argnums``
    gives it bare, a sequence gives a tuple. Gradients are fresh, writable arrays (NumPy scalars for
    scalars).

    * ``has_aux``: ``fun`` returns ``(output, aux)``, the result is ``(gradient, aux)``.
    * ``holomorphic``: complex in, complex out, the complex derivative. For a real output of complex
      arguments the gradient is du/dx - i du/dy, no conjugation.
    * ``allow_int``: integer leaves get ``float0`` zeros instead of raising.
    * ``strict``: plain IEEE arithmetic where a partial derivative is not finite.

    Costs a small constant times one evaluation, whatever the number of inputs. Raises `TypeError`
    for outputs that are not real scalars, arguments without derivatives, and argnums out of range.

    >>> import numpy as np, vjpkit as vk
    >>> vk.grad(lambda x: np.sum(np.sin(x)))(np.array([0.0, 1.0]))
    array([1.        , 0.54030231])
    >>> vk.grad(lambda p: p["a"] * p["b"])({"a": 2.0, "b": 3.0})
    {'a': np.float64(3.0), 'b': np.float64(2.0)}
    """
    if fun is None:
        return lambda f: Grad(f, argnums, has_aux, holomorphic, allow_int, strict)
    return Grad(fun, argnums, has_aux, holomorphic, allow_int, strict)


# ------------------------------------------------------------------------- linearize, vjp, jvp, hvp


def linearized(
    label: str, fun: Function, primals: tuple[PyTree, ...], has_aux: bool, strict: bool
) -> Any:
    """Output tree, aux and the linear map at ``primals``."""
    require_function(label, fun)
    leaves, tree = flatten(primals)
    trace = Rows(label)
    slots: list[int] = []
    inputs: list[Value] = []
    for i, x in enumerate(leaves):
        if type(x) is not np.ndarray or x.dtype.kind not in "fc":
            x = leaves[i] = primal_leaf(label, primals, i, x)
        if is_differentiable(x):
            held = trace.keep(x) if type(x) is np.ndarray else x
            if isinstance(x, Tracer):  # which may be written to before the pullback runs
                held = roles["held"](x)
            if type(x) is np.ndarray and held.strides != x.strides:
                held = copy_with_layout(x)  # the layout decides what is a view
            argument = trace.argument(held)
            slots.append(argument.slot)
            inputs.append(argument)
        else:
            inputs.append(x)
    y, rows = recorded(trace, fun, tree.unflatten(inputs), {})
    inputs = []
    aux = None
    if has_aux:
        y, aux = _split_aux(label, y)
        aux = tree_map(lambda x: _given(trace, rows, trace.lower(x)), aux)
    outs, out_tree = flatten(y)
    require_arrays(label, y, outs)
    values: list[Value] = []
    out_slots: list[int | None] = []
    for out in outs:
        _, k, value = _lowered(trace, out)
        values.append(value)
        if aval_of(value).inexact:
            out_slots.append(k)
    trace.restore()
    domain = Side.of_leaves(leaves, tree, star=True)
    codomain = Side.of_leaves(values, out_tree, star=False)
    given = [_given(trace, rows, v) for v in values]
    backing = Recorded(trace, rows, slots, out_slots, strict)
    linear = LinearMap(backing, domain, codomain, label)
    return out_tree.unflatten(given), aux, linear


def primal_leaf(label: str, primals: PyTree, i: int, x: Value) -> Value:
    """A leaf of the primals; integers and booleans are constants of the map (float0)."""
    if isinstance(x, bool | np.bool_):
        return np.asarray(x)
    if isinstance(x, str | bytes) or not (
        isinstance(x, int | float | complex) or hasattr(x, "dtype")
    ):
        path = keystr(flatten_with_path(primals)[0][i][0])
        return float_leaf(label, f"argument {path}", x)
    return float_leaf(label, "argument", x, allow_int=not isinstance(x, int))


def _given(trace: Rows, rows: list[Row], value: Value) -> Value:
    """A primal output as the user gets it: changing it in place must not change the linear map."""
    if isinstance(value, Tracer):
        return roles["held"](value)
    if type(value) is not np.ndarray:
        return value
    if value.nbytes <= COPY_LIMIT:
        return value.copy()
    root = _root(value)
    if any(_root(x) is root for row in rows for x in row if type(x) is np.ndarray):
        trace.guards.setdefault(id(value), Guard(value, calling_position()))
    return value


def _root(x: Any) -> Any:
    """The array that owns the memory."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def linearize(fun: Function, *primals: PyTree, has_aux: bool = False, strict: bool = False) -> Any:
    """Value of ``fun`` at ``primals`` and its linearization there: f(x + t) ≈ f(x) + L(t).

    ``(out, L)``, or ``(out, L, aux)``; ``L(*tangents)`` has the tree of the output. `LinearMap`
    says what else ``L`` can do.

    >>> import numpy as np, vjpkit as vk
    >>> y, L = vk.linearize(lambda x: x * x, 3.0)
    >>> y, L(1.0), L.T(1.0)
    (9.0, np.float64(6.0), (np.float64(6.0),))
    """
    out, aux, linear = linearized(f"linearize({name_of(fun)})", fun, primals, has_aux, strict)
    return (out, linear, aux) if has_aux else (out, linear)


def vjp(fun: Function, *primals: PyTree, has_aux: bool = False, strict: bool = False) -> Any:
    """Value of ``fun`` at ``primals`` and its pullback: the vector-Jacobian product as a
    `LinearMap`.

    ``(out, pullback)``, or ``(out, pullback, aux)``. ``pullback(ct)`` takes one cotangent of the
    output's tree and returns a tuple, one cotangent per primal; any number of times.

    >>> import numpy as np, vjpkit as vk
    >>> y, pullback = vk.vjp(lambda a, b: a * b, 2.0, 5.0)
    >>> pullback(1.0)
    (np.float64(5.0), np.float64(2.0))
    """
    out, aux, linear = linearized(f"vjp({name_of(fun)})", fun, primals, has_aux, strict)
    return (out, linear.T, aux) if has_aux else (out, linear.T)


def jvp(
    fun: Function,
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    has_aux: bool = False,
    *,
    strict: bool = False,
) -> Any:
    """Value of ``fun`` and its directional derivative: the Jacobian-vector product.

    ``primals`` and ``tangents`` are tuples or lists of the same tree (`TypeError`), shapes and
    dtypes (`ValueError`). Gives ``(out, tangent)``, or ``(out, tangent, aux)``. Memory does not
    grow with the length of the computation.

    >>> import numpy as np, vjpkit as vk
    >>> vk.jvp(np.sin, (0.0,), (2.0,))
    (np.float64(0.0), np.float64(2.0))
    """
    return _pushed(f"jvp({name_of(fun)})", fun, primals, tangents, has_aux, strict)


def _pushed(
    label: str, fun: Function, primals: Any, tangents: Any, has_aux: bool, strict: bool
) -> Any:
    """What `jvp` returns."""
    require_function(label, fun)
    _require_sequences(label, fun, primals, tangents)
    trace = Duals(label, strict)
    arguments: Sequence[PyTree]
    if fit_together(primals, tangents):
        t_leaves = list(tangents)
        arguments = [Dual(x, trace, t) for x, t in zip(primals, tangents, strict=True)]
    else:
        arguments, t_leaves = _dual_trees(label, trace, tuple(primals), tuple(tangents))
    try:
        y = called(trace, fun, arguments, {})
    finally:
        trace.closed = True
    if type(y) is Dual and y.owner is trace and type(y.value) is np.float64 and not has_aux:
        return y.value, fresh(y.tangent, SCALAR, True, set())
    aux = None
    if has_aux:
        y, aux = _split_aux(label, y)
        aux = tree_map(lambda leaf: trace.split(leaf)[0], aux)
    outs, out_tree = flatten(y)
    require_arrays(label, y, outs)
    pairs = [trace.split(o) for o in outs]
    taken = {id(t) for t in t_leaves}
    out_ts = [
        np.zeros(np.shape(v), FLOAT0)
        if not aval_of(v).inexact
        else filled_like(v, 0)
        if t is None
        else fresh(t, tangent_aval(v), not isinstance(v, np.ndarray), taken)
        for v, t in pairs
    ]
    out = out_tree.unflatten([v for v, _ in pairs])
    tangent = out_tree.unflatten(out_ts)
    return (out, tangent, aux) if has_aux else (out, tangent)


def fit_together(primals: Sequence[PyTree], tangents: Sequence[PyTree]) -> bool:
    """Whether both are bare arrays of inexact numbers, of the same shapes and dtypes."""
    if len(primals) != len(tangents):
        return False
    for x, t in zip(primals, tangents, strict=True):
        if not (type(x) is np.ndarray is type(t) and x.dtype is t.dtype and x.shape == t.shape):
            return False
        if x.dtype.kind not in "fc":
            return False
    return True


def _dual_trees(
    label: str, trace: Duals, primals: tuple[PyTree, ...], tangents: tuple[PyTree, ...]
) -> tuple[tuple[PyTree, ...], list[Value]]:
    """The arguments with dual leaves, and the leaves of the tangents, after all checks."""
    leaves, tree = flatten(primals)
    t_leaves, t_tree = flatten(tangents)
    if tree != t_tree:
        raise TypeError(
            f"{label}: primals and tangents must have the same tree, got {tree} and {t_tree}"
            f"{at(calling_position())}"
        )
    leaves = [
        x if type(x) is np.ndarray and x.dtype.kind in "fc" else primal_leaf(label, primals, i, x)
        for i, x in enumerate(leaves)
    ]
    side = Side.of_leaves(leaves, tree, star=True)
    ts = iter(side.read(label, tuple(tree.unflatten(t_leaves))))
    inputs = [Dual(x, trace, next(ts)) if is_differentiable(x) else x for x in leaves]
    return tree.unflatten(inputs), t_leaves


SCALAR = Aval((), np.dtype(np.float64))


def _require_sequences(label: str, fun: Function, primals: object, tangents: object) -> None:
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TypeError(
            f"{label}: primals and tangents must be tuples or lists of arguments, got "
            f"{type(primals).__name__} and {type(tangents).__name__}{at(calling_position())}.\n"
            f"Write {label.partition('(')[0]}({name_of(fun)}, (x,), (t,))."
        )


def hvp(
    fun: Function, primals: Sequence[PyTree], tangents: Sequence[PyTree], *, strict: bool = False
) -> Any:
    """Hessian-vector product of a scalar function: forward over reverse, the Hessian never built.

    ``primals`` and ``tangents`` as in `jvp`. One primal gives its product bare, several a tuple.

    >>> import numpy as np, vjpkit as vk
    >>> vk.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
    array([6., 0.])
    """
    label = f"hvp({name_of(fun)})"
    require_function(label, fun)
    _require_sequences(label, fun, primals, tangents)
    numbers = tuple(range(len(primals)))
    gradient = Grad(fun, numbers if len(numbers) != 1 else 0, False, False, False, strict)
    gradient.label = label
    return _pushed(label, gradient, primals, tangents, False, strict)[1]
