"""Which equations run together, block by block over the cache.

A group is a run of elementwise equations, and of reductions within rows, over arrays of the same
leading length: their blocks of rows stay in the cache, and only what is used outside the group is
ever made whole. Sums down the rows end a group: they are added up block by block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import numpy as np

from vjpkit.core.aval import Aval
from vjpkit.core.ir import Atom, Equation, Var, used
from vjpkit.kinds.elementwise import Ufunc

__all__ = ["FEW_WAITING", "Group", "Together", "beginning", "blocked", "is_elementwise", "schedule"]

SMALLEST = 1 << 17
"""Elements from which blocks pay: below, whole arrays stay in the outer caches by themselves."""
BLOCK = 30 << 10
"""Elements of a block: a ufunc's overhead is small beside it, several blocks fit the cache."""

FEWEST_ROWS = 8
"""Rows of a block from which what is small in them does not make up most of the calls."""

FEW_WAITING = 64
"""Equations that are looked at again when the group for which they waited has ended."""

_WITHIN_ROWS = frozenset({"sum", "max", "min", "spread"})
_ELEMENTWISE = frozenset({"scale", "where", "same"})


def is_elementwise(eqn: Equation) -> bool:
    """Whether each element of the one result depends on the elements at its place alone."""
    return isinstance(eqn.primitive, Ufunc) or eqn.primitive.name in _ELEMENTWISE


# Nobody compares or prints groups, and such methods take a while to be made.
@dataclass(eq=False, repr=False)
class Together:
    """Equations that run as one; ``sums`` add up results of the others, and end the group."""

    patience: ClassVar[float] = 0
    """How many equations may wait that need the group and do not belong to it."""

    equations: list[Equation] = field(default_factory=list)
    sums: list[Equation] = field(default_factory=list)
    members: set[Var] = field(default_factory=set)
    waiting: list[Equation] = field(default_factory=list)
    """What needs the group, and comes after it."""
    beyond: set[Var] = field(default_factory=set)
    """What the group cannot read: its sums, and what is waiting."""

    def takes(self, eqn: Equation) -> bool:
        """Whether the equation can be computed along with the others."""
        raise NotImplementedError

    def sums_up(self, eqn: Equation) -> bool:
        """Whether the equation adds up a member in a way that the group can."""
        return False

    def pays(self) -> bool:
        """Whether the group is quicker than its equations one by one."""
        raise NotImplementedError

    def ousts(self, other: Together) -> bool:
        """Whether the group begins even where another one has to end for it."""
        return True

    def add(self, eqn: Equation) -> None:
        self.equations.append(eqn)
        self.members.update(eqn.outputs)

    def taken(self, eqn: Equation) -> Equation | None:
        """What is left of an equation when the group has taken what it can."""
        if not self.beyond.isdisjoint(eqn.inputs):
            return eqn
        if self.takes(eqn):
            self.add(eqn)
            return None
        if self.sums_up(eqn):
            self.sums.append(eqn)
            self.beyond.update(eqn.outputs)
            return None
        return eqn

    def wait(self, eqn: Equation) -> None:
        """Let an equation come after the group."""
        self.waiting.append(eqn)
        self.beyond.update(eqn.outputs)

    def depends(self, eqn: Equation) -> bool:
        """Whether the equation needs what the group makes."""
        return any(a in self.members or a in self.beyond for a in used(eqn.inputs))

    def parts(self) -> list[Equation | Together]:
        """The group, or its equations where it does not pay."""
        return [self] if self.pays() else [*self.equations, *self.sums]


def schedule(
    parts: Iterable[Equation | Together], begun: Callable[[Equation], Together | None]
) -> list[Equation | Together]:
    """The parts in an order in which equations that run together are one group.

    ``begun`` gives the group that begins with an equation, if one can.
    """
    out: list[Equation | Together] = []
    group: Together | None = None
    coming = deque(parts)

    def close() -> None:
        """End the group; what had to wait comes next, if that is little, and may begin another."""
        nonlocal group
        if group is not None:
            out.extend(group.parts())
            few = len(group.waiting) <= FEW_WAITING
            (coming.extendleft if few else out.extend)(group.waiting[:: -1 if few else 1])
        group = None

    while coming or group is not None:
        if not coming:
            close()
            continue
        part = coming.popleft()
        if isinstance(part, Together) or part.effect:
            if group is not None:
                coming.appendleft(part)
                close()
            else:
                out.append(part)
            continue
        left = part if group is None else group.taken(part)
        if left is None:
            continue
        fresh = begun(left)
        needs = group is not None and group.depends(left)
        if group is not None and (
            (needs and len(group.waiting) >= group.patience)
            or (fresh is not None and fresh.ousts(group))
        ):
            coming.appendleft(left)
            close()
        elif group is None and fresh is not None:
            group = fresh
        elif group is not None and needs:
            group.wait(left)
        else:
            out.append(left)
    return out


GroupT = TypeVar("GroupT", bound=Together)


def beginning(group: GroupT, eqn: Equation) -> GroupT | None:
    """The group with its first equation, if it takes that."""
    if not group.takes(eqn):
        return None
    group.add(eqn)
    return group


@dataclass(eq=False, repr=False)
class Group(Together):
    """Equations over arrays whose first axis has ``length``; ``sums`` go down the rows.

    ``flat`` says that all have one shape, so that blocks need not be rows. ``strided`` are arrays
    that only a copy would make flat.
    """

    length: int = 0
    flat: bool = False
    strided: Collection[Atom] = ()

    def takes(self, eqn: Equation) -> bool:
        """Whether the equation can be computed rows by rows, from rows."""
        if len(eqn.outputs) != 1:
            return False
        (out,) = eqn.outputs
        if not _is_plain(out.aval) or not out.aval.shape or out.aval.shape[0] != self.length:
            return False
        if is_elementwise(eqn):
            return all(self.reads(a, out.aval) for a in eqn.inputs)
        name, (x, *_) = eqn.primitive.name, eqn.inputs or (None,)
        if not isinstance(x, Var) or not x.aval.shape or x.aval.shape[0] != self.length:
            return False
        if not all(a.aval.shape[:1] == (self.length,) for a in eqn.inputs):
            return False
        if name in _WITHIN_ROWS:
            axes = eqn.params["axes"]
            return axes is not None and len(axes) > 0 and min(axes) > 0
        if name == "broadcast_to":
            return x.aval.ndim == out.aval.ndim and x in self.members
        return name == "reshape" and x in self.members

    def reads(self, a: Atom, out: Aval) -> bool:
        """Whether rows of ``out`` need from ``a`` its rows, or all of it."""
        if self.has_rows(a, out):
            return _is_plain(a.aval)
        return a not in self.members and a.aval.size <= BLOCK

    def has_rows(self, a: Atom, out: Aval) -> bool:
        """Whether the first axis of ``a`` is the rows of ``out``."""
        return a.aval.ndim == out.ndim and a.aval.shape[:1] == (self.length,)

    def sums_up(self, eqn: Equation) -> bool:
        """Whether the equation adds up a member down its rows."""
        if eqn.primitive.name != "sum" or eqn.inputs[0] not in self.members:
            return False
        axes = eqn.params["axes"]
        return (axes is None or 0 in axes) and eqn.inputs[0].aval.dtype.kind in "fc"

    def pays(self) -> bool:
        """Whether blocks are quicker, which decides about their form."""
        shape = self.equations[-1].outputs[0].aval.shape
        shapes = {a.aval.shape for e in self.equations for a in (*e.inputs, *e.outputs)}
        self.flat = shapes <= {shape, ()} and all(map(is_elementwise, self.equations))
        self.flat = self.flat and all(e.params["axes"] is None for e in self.sums)
        short = self.row * FEWEST_ROWS <= BLOCK
        if self.flat and short and any(a in self.strided for e in self.equations for a in e.inputs):
            self.flat = False
        if self.flat:
            self.length = int(np.prod(shape))
        several = len(self.equations) + len(self.sums) > 1
        return several and (self.flat or short)

    @property
    def block(self) -> int:
        """Rows (elements, in the flat form) of a block."""
        return BLOCK if self.flat else max(1, BLOCK // self.row)

    @property
    def row(self) -> int:
        """Elements of the longest row."""
        atoms = {a for e in self.equations for a in (*e.inputs, *e.outputs)}
        rows = [a.aval.size for a in atoms if a.aval.shape[:1] == (self.length,)]
        return max(rows) // self.length


def _is_plain(aval: Aval) -> bool:
    dtype = aval.dtype
    return dtype.kind == "b" or (dtype.kind in "iufc" and dtype.itemsize >= 4)


def blocked(eqn: Equation, strided: Collection[Atom] = ()) -> Group | None:
    """A group that begins with an equation that makes or reduces a large array."""
    if len(eqn.outputs) != 1:
        return None
    within = eqn.primitive.name in _WITHIN_ROWS
    large = eqn.inputs[0] if within else eqn.outputs[0]
    if not (within or is_elementwise(eqn)) or large.aval.size < SMALLEST:
        return None
    length = (eqn.outputs[0].aval.shape or (0,))[0]
    return beginning(Group(length=length, strided=strided), eqn)
