"""Elements that a mask selects whose values are not known: staged, or of one example of a batch.

How many there are is not known either, so they have no shape. They are kept at their places, in
an array as large as the mask's, and computed with element by element until they are written back,
with the mask that selected them, or reduced. Arrays with one element for each are brought to the
same places: that there are as many is found out when the program runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from vjpkit.core.aval import Aval, Value, aval_of
from vjpkit.core.errors import TracerConversionError, UnsupportedError, at, calling_position
from vjpkit.core.ir import Atom, Equation
from vjpkit.core.rows import roles
from vjpkit.core.staging import Builder, Staged
from vjpkit.core.tracer import Tracer, refresh
from vjpkit.ops import selection
from vjpkit.ops.index import is_basic, stand_in

__all__ = [
    "FUNCTIONS", "METHODS", "Selected", "has_unknown_mask", "is_unknown_mask", "mask_in_front",
    "placed", "same_mask", "selected", "wide",
]  # fmt: skip


def is_unknown_mask(index: Any) -> bool:
    """Whether an index is one mask of booleans that are not known."""
    if not isinstance(index, Tracer) or index.dtype != bool:
        return False
    from vjpkit.transforms.staged import is_abstract

    return is_abstract(index)


def has_unknown_mask(index: Any) -> bool:
    """Whether an index is, or has among its entries, a mask of booleans that are not known."""
    if type(index) is tuple:
        return any(map(is_unknown_mask, index))
    return is_unknown_mask(index)


def as_it_is(mask: Tracer) -> Tracer:
    """A mask that later writes to the array do not change."""
    now: Tracer = roles["snapshot"](refresh(mask))
    return now


def mask_in_front(x: Value, index: Any) -> tuple[Value, Tracer, int]:
    """A view of ``x``, and a mask for its leading axes, that select what ``index`` does.

    Along which axis of the result its elements come is the third: 0 but where NumPy has others in
    front.
    """
    if type(index) is not tuple:
        return x, as_it_is(index), 0
    i, *others = [i for i, e in enumerate(index) if is_unknown_mask(e)]
    mask = as_it_is(index[i])
    rest = [e for k, e in enumerate(index) if k != i]
    if others or not is_basic(tuple(rest)) or (rest and not mask.ndim):
        raise UnsupportedError(
            f"a mask of {mask.aval} whose values are not known cannot be an index beside another "
            f"mask, or arrays of indices{at(calling_position())}\n"
            "Use np.where(mask, x, 0) to select without changing the shape."
        )
    if not rest:
        return x, mask, 0
    taken = mask.ndim + sum([e is not None and e is not Ellipsis for e in rest])
    given = [x.ndim - taken if e is Ellipsis else not hasattr(e, "__index__") for e in index[:i]]
    axes = range(sum(given), sum(given) + mask.ndim)
    front = x[(*index[:i], *[slice(None)] * mask.ndim, *index[i + 1 :])]
    return np.moveaxis(front, axes, range(mask.ndim)), mask, _selected_axis(x, index, i)


def _selected_axis(x: Value, index: tuple[Any, ...], i: int) -> int:
    """Along which axis of ``x[index]`` the elements come that the mask, its entry ``i``, selects.

    Asked of NumPy: it is the one whose length depends on the mask.
    """
    like = stand_in(Aval(x.shape, bool))
    masks = [make(index[i].shape, bool) for make in (np.zeros, np.ones)]
    none, every = (like[(*index[:i], mask, *index[i + 1 :])].shape for mask in masks)
    return next((k for k, (n, m) in enumerate(zip(none, every, strict=True)) if n != m), 0)


def selected(x: Value, mask: Tracer, place: int = 0) -> Selected:
    """``x[mask]``; what is not selected is 1, so that computing with it neither fails nor warns.

    Along axis ``place`` of the result come the elements that the mask selects.
    """
    return Selected(mask, np.where(wide(x, mask), x, x.dtype.type(1)), place)


def wide(x: Value, mask: Tracer) -> Value:
    """The mask with the axes of ``x``, whose leading ones it must have."""
    for axis, (n, m) in enumerate(zip(x.shape, mask.shape, strict=False)):
        if n != m:
            raise IndexError(
                f"boolean index did not match indexed array along axis {axis}; size of axis is {n} "
                f"but size of corresponding boolean axis is {m}{at(calling_position())}"
            )
    if mask.ndim > x.ndim:
        raise IndexError(
            f"too many indices for array: array is {x.ndim}-dimensional, but {mask.ndim} were "
            f"indexed{at(calling_position())}"
        )
    return np.reshape(mask, (*mask.shape, *[1] * (x.ndim - mask.ndim)))


def placed(x: Value, mask: Tracer, values: Value) -> Value:
    """``values`` for each element of ``x`` that the mask selects, at their places, and 1 elsewhere.

    As many as there are, which is an error when the program runs; or one for all.
    """
    shape = aval_of(values).shape
    if shape[0] == 1:
        return values[0]
    rest = np.broadcast_shapes(shape[1:], x.shape[mask.ndim :])
    found = selection.place(np.broadcast_to(values, (shape[0], *rest)), mask, lead=0)
    return np.where(np.reshape(mask, (*mask.shape, *[1] * len(rest))), found, found.dtype.type(1))


class Selected(NDArrayOperatorsMixin):
    """What a mask selects: ``values`` at all places, of which those where it is true count.

    The axes of the mask lead those of ``values``; they are axis ``place`` of the selection.
    """

    __array_priority__ = 2000.0

    def __init__(self, mask: Tracer, values: Value, place: int = 0) -> None:
        self.mask = mask
        self.values = values
        self.place = place

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.values.dtype
        return dtype

    @property
    def ndim(self) -> int:
        return 1 + len(aval_of(self.values).shape) - self.mask.ndim

    @property
    def shape(self) -> NoReturn:
        raise self.unknown()

    def unknown(self) -> TracerConversionError:
        """The error for what asks how many there are."""
        return TracerConversionError(
            f"the shape of what a mask of {self.mask.aval} selects depends on its values, which "
            f"are not known{at(calling_position())}\nUse np.where(mask, x, 0) to select without "
            "changing the shape."
        )

    @property
    def size(self) -> Value:
        return np.sum(self.whole_mask)

    def __len__(self) -> NoReturn:
        raise self.unknown()

    def __iter__(self) -> NoReturn:
        raise self.unknown()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise self.unknown()

    def __array_namespace__(self, api_version: str | None = None) -> NoReturn:
        raise self.unknown()

    def __getitem__(self, index: Any) -> NoReturn:
        self.refuse("an index of what a mask selects")

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        self.refuse("an assignment to what a mask selects")

    def __repr__(self) -> str:
        return f"Selected<{self.values.dtype}, by {self.mask!r}>"

    def astype(self, dtype: Any, **kwargs: Any) -> Selected:
        return self.like(self.values.astype(dtype, **kwargs))

    def copy(self) -> Selected:
        return self.like(self.values)

    def like(self, values: Value) -> Selected:
        """Other values that the same mask selects."""
        return Selected(self.mask, values, self.place)

    @property
    def whole_mask(self) -> Value:
        """The mask in the shape of the values."""
        return wide(self.values, self.mask) & np.ones(aval_of(self.values).shape, bool)

    def operand(self, x: Any, name: str) -> Value:
        """An operand, at all places: selected by this mask, or the same for all that it selects."""
        if isinstance(x, Selected):
            if not same_mask(x.mask, self.mask) or x.place != self.place or x.ndim != self.ndim:
                self.refuse(f"{name} of what different masks select")
            return x.values
        shape = aval_of(x).shape
        if len(shape) < self.ndim - self.place:
            return x
        if len(shape) > self.ndim:
            self.refuse(f"{name} with an array of shape {shape}")
        x = np.reshape(x, (1,) * (self.ndim - len(shape)) + shape)
        return placed(self.values, self.mask, np.moveaxis(x, self.place, 0))

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Sequence[Any] = (), **kwargs: Any
    ) -> Any:
        name = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
        if method == "__call__" and ufunc in FUNCTIONS and not out:
            return FUNCTIONS[ufunc](*inputs, **kwargs)
        if method != "__call__" or kwargs.keys() - {"dtype", "casting"}:
            self.refuse(f"{name} with {sorted(kwargs)}")
        made = ufunc(*[self.operand(x, name) for x in inputs], **kwargs)
        if out:  # an operator in place
            (target,) = out
            if not isinstance(target, Selected):
                self.refuse(f"{name} with an out")
            self.operand(target, name)
            target.values = np.astype(made, target.dtype)
            return target
        several = isinstance(made, tuple)
        results = [self.like(y) for y in (made if several else (made,))]
        return tuple(results) if several else results[0]

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Value:
        found = FUNCTIONS.get(func)
        return self.refuse(f"np.{func.__name__}") if found is None else found(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        function = METHODS.get(name)
        if function is None:
            raise AttributeError(f"what an unknown mask selects has no attribute {name!r}")
        return functools.partial(FUNCTIONS[function], self)

    def refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(
            f"{what} is not supported: how many elements a mask of {self.mask.aval} selects is not "
            f"known{at(calling_position())}\nThey can be computed with element by element, "
            "reduced, sorted, and written back with the same mask; for the rest use "
            "np.where(mask, x, 0), which does not change the shape."
        )


FUNCTIONS: dict[Any, Callable[..., Any]] = {}
"""What NumPy's functions do with a `Selected`; `_of_selected` fills it."""

METHODS: dict[str, Any] = {}
"""Functions of NumPy's that are methods of arrays."""


def same_mask(one: Value, other: Value) -> bool:
    """Whether two masks are the same, or computed in the same way from the same values."""
    if one is other:
        return True
    if type(one) is not type(other) or not isinstance(one, Tracer) or one.owner is not other.owner:
        plain = not (isinstance(one, Tracer) or isinstance(other, Tracer))
        return plain and np.array_equal(one, other)
    if isinstance(one, Staged):
        return _same_atom(one.owner, one.variable, other.variable)
    return same_mask(one.value, other.value)


def _same_atom(builder: Builder, one: Atom, other: Atom) -> bool:
    if one is other or one == other:
        return True
    first, second = _maker(builder, one), _maker(builder, other)
    if first is None or second is None or first[1] != second[1]:
        return False
    (eqn, _), (again, _) = first, second
    if eqn.primitive is not again.primitive or eqn.params != again.params or eqn.effect:
        return False
    pairs = zip(eqn.inputs, again.inputs, strict=True)
    return all(_same_atom(builder, a, b) for a, b in pairs)


def _maker(builder: Builder, a: Atom) -> tuple[Equation, int] | None:
    """The equation that defines a variable, and which of its outputs that is."""
    for eqn in reversed(builder.equations):
        for i, v in enumerate(eqn.outputs):
            if v is a:
                return eqn, i
    return None
