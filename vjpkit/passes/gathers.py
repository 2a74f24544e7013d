"""Elements read and added by index arrays, one for each axis: by their flat positions.

What is read at an index is added to at the same index on the way back, and neighbouring fields are
read at the same places: the positions are computed once, and NumPy reads and adds by one array of
them several times faster than by two.
"""

from __future__ import annotations

from collections import Counter

from vjpkit.core.aval import Shape
from vjpkit.core.ir import Atom, Equation, Program
from vjpkit.core.primitive import lookup
from vjpkit.ops.index import Index
from vjpkit.passes.rewriting import Rewriter

__all__ = ["with_positions_shared"]

FLAT = Index((Index.ARRAY,))
Place = tuple[tuple[Atom, ...], Shape]
"""Index arrays, and the shape that they index."""


def with_positions_shared(program: Program) -> Program:
    """Reads and sums at index arrays that occur twice are at flat positions.

    Law: equal outputs, to the bit, and NumPy's IndexError.
    """
    uses = Counter(place for eqn in program.equations for place in _places(eqn) or ())
    if not any(count > 1 for count in uses.values()):
        return program
    walk = _Gathers(program, uses)
    for old in program.equations:
        walk.visit(walk.read(old))
    return walk.finish()


class _Gathers(Rewriter):
    def __init__(self, program: Program, uses: Counter[Place]) -> None:
        super().__init__(program)
        self.uses = uses
        self.positions: dict[Place, Atom] = {}

    def visit(self, eqn: Equation) -> None:
        places = _places(eqn)
        if not places or any(self.uses[place] < 2 for place in places):
            self.keep(eqn)
            return
        ((_, shape), *_) = places
        size = 1
        for n in shape:
            size *= n
        where = [self.position(eqn, place) for place in places]
        if eqn.primitive.name == "getitem":
            x = self.made(eqn, "reshape", eqn.inputs[0], shape=(size,))
            self.replace(eqn, (self.made(eqn, "getitem", x, *where, index=FLAT),))
            return
        params = {**eqn.params, "shape": (size,), "indices": (FLAT,) * len(where)}
        total = self.made(eqn, "scatter_sum", *where, *eqn.inputs[-len(where) :], **params)
        self.replace(eqn, (self.made(eqn, "reshape", total, shape=shape),))

    def made(self, eqn: Equation, name: str, *inputs: Atom, **params: object) -> Atom:
        return self.emit(lookup(name), inputs, params, eqn.position)

    def position(self, eqn: Equation, place: Place) -> Atom:
        if place not in self.positions:
            arrays, shape = place
            self.positions[place] = self.made(eqn, "positions", *arrays, shape=shape)
        return self.positions[place]


def _places(eqn: Equation) -> list[Place] | None:
    """Where an equation reads or adds, if all axes are indexed by arrays of integers."""
    name = eqn.primitive.name
    if name == "getitem":
        x, *arrays = eqn.inputs
        shape, indices = x.aval.shape, (eqn.params["index"],)
    elif name == "scatter_sum":
        shape, indices = eqn.params["shape"], eqn.params["indices"]
        arrays = list(eqn.inputs[: -len(indices)])
    else:
        return None
    ndim = len(shape)
    whole = all(index.entries == (Index.ARRAY,) * ndim for index in indices)
    if ndim < 2 or not whole or any(a.aval.dtype.kind not in "iu" for a in arrays):
        return None
    return [(tuple(arrays[i * ndim : (i + 1) * ndim]), shape) for i in range(len(indices))]
