"""Which checks come to which places of the rules: only these can notice a mistake there."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.mutation.mutants import Place, Source, codes_in, is_branch, positions, put

__all__ = ["Probes"]

RECORD = "_reached_"
"""The name, in a module that is watched, of what a probe calls."""


class Probes:
    """What records the places of modules that are come to, while it is installed."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.reached: set[Place] = set()
        self.swaps = [swap for source in sources for swap in self._probed(source)]

    def _probed(self, source: Source) -> Iterator[tuple[Any, Any]]:
        """The functions of a module, each with its code that has probes in it."""
        setattr(source.module, RECORD, self.reached.add)
        trees = {id(rule.tree.body[-1]): rule.tree for rule in source.rules()}
        for tree in trees.values():
            probed = _Probing(source.owner).visit(copy.deepcopy(tree.body[-1]))
            module = ast.fix_missing_locations(ast.Module([*tree.body[:-1], probed], []))
            codes = [codes_in(source.compiled(x)) for x in (tree, module)]
            for old, new in zip(*codes, strict=True):
                for function in source.functions.get(positions(old), ()):
                    yield function, new

    @contextmanager
    def installed(self) -> Iterator[None]:
        before = [(function, function.__code__) for function, _ in self.swaps]
        put(self.swaps)
        try:
            yield
        finally:
            put(before)

    def taken(self) -> frozenset[Place]:
        """The places that were come to since the last time."""
        found = frozenset(self.reached)
        self.reached.clear()
        return found


class _Probing(ast.NodeTransformer):
    """Puts a probe before every statement, and into every branch of an expression."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, field, [x for s in value for x in (ast.Expr(self.probe(s)), s)])
            elif isinstance(value, ast.expr) and is_branch(node, field):
                both = ast.Tuple([self.probe(value), value], ast.Load())
                second = ast.Subscript(both, ast.Constant(1), ast.Load())
                setattr(node, field, ast.copy_location(second, value))
        return node

    def probe(self, node: ast.stmt | ast.expr) -> ast.Call:
        parts: list[ast.expr] = [
            ast.Constant(x) for x in (self.owner, node.lineno, node.col_offset)
        ]
        place = ast.Tuple(parts, ast.Load())
        return ast.Call(ast.Name(RECORD, ast.Load()), [place], [])
