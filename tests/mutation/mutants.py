"""Mutants of the rules of primitives: one small mistake each, made in the running code for a while.

A rule is what a primitive's class says about derivatives, batching and linearity: its methods other
than ``impl``, ``abstract`` and ``samples``, the functions among its attributes, and the functions
that these call, in whatever module of the operations, of control flow and of kinds. The machinery
of control flow, which makes programs from programs, and the kinds, which supply what follows from a
kind, count as rules as a whole. A mutant changes one node of the syntax tree of such a function (a
sign, a term, a factor or their order, a call replaced by an argument, a method, a conjugate or a
transpose left out, another branch, another constant, the opposite condition, one condition of
several left out, a statement that adds or writes left out); the module is compiled again, and the
code objects that differ are put into the functions that exist. Declarations that are no functions
(numbers among the partials, ``linear``, ``singular``, ...) are changed on the class.
"""

from __future__ import annotations

import ast
import copy
import gc
import inspect
import pkgutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import CodeType, FunctionType, ModuleType
from typing import Any

from vjpkit.core.ir import Program
from vjpkit.core.primitive import Primitive, registered
from vjpkit.kinds import Elementwise, General
from vjpkit.kinds.elementwise import _RuleSource
from vjpkit.transforms import batch

__all__ = [
    "MACHINERY", "Mutant", "Place", "Rule", "Source", "codes_in", "concerned",
    "forget_derived", "is_branch", "mutants_of_declarations", "positions", "put", "settle",
    "watch_programs",
]  # fmt: skip

Place = tuple[str, int, int]
"""A statement, or a branch of an expression: its module, line and column."""

MACHINERY = (
    "kinds.general", "kinds.linear", "kinds.series",
    *[
        f"control.{name}"
        for name in (
            "bodies", "checkpointing", "custom", "custom_arguments", "dynamic", "external",
            "higher", "implicit", "layout", "loop", "mapped_rules", "programs", "revolve", "rules",
            "scan_split", "staged_rules", "steps",
        )
    ],
)  # fmt: skip
"""Modules in which every function and method is a rule."""

CHOICES = {"where", "select"}
"""Calls of which any operand may be taken for the result."""

TRUTHS = {"all", "any", "bool", "hasattr", "isinstance", "issubclass", "len"}
"""Calls that give no array."""

OF_CONTAINERS = {
    "add", "append", "extend", "get", "items", "join", "keys", "pop", "setdefault", "update",
    "values",
}  # fmt: skip
"""Methods of containers: their objects are no arrays."""

NOT_RULES = {
    "__call__", "__init__", "abstract", "aids", "canonical", "computed_in", "core_ndims",
    "exempt", "fixed", "impl", "out_dtype", "quick", "read", "real_value",
    "record", "samples", "ufunc", "unknown", "walked",
}  # fmt: skip
"""Methods that say what is computed, not how it is differentiated."""

ASIDE = {
    "control.external._example", "control.rules.example_calls", "ops.scipy_special.refused",
    "ops.scipy_special.unknown", "ops.scipy_special.whole",
}  # fmt: skip
"""Functions that rules name and that are none: they say where rules are tried, or have run when a
class was made, where a mistake made later comes too late."""

NOT_ARITHMETIC = {
    "NotDifferentiableError", "TypeError", "UnsupportedError", "ValueError", "abs", "all", "any",
    "at", "aval_of", "bool", "calling_position", "dict", "enumerate", "float", "getattr", "hasattr",
    "int", "isinstance", "iter", "len", "list", "map", "next", "normalize_axes", "own_values",
    "range", "repr", "reversed", "set", "slice", "sorted", "str", "super", "tuple", "type", "warn",
    "zip",
}  # fmt: skip
"""Calls that are not replaced by their argument: that would be no mistake in a formula."""


@dataclass(frozen=True)
class Mutant:
    """One mistake: where, what, and how to make it for a while."""

    owner: str
    function: str
    line: int
    text: str
    apply: Callable[[], Any]
    place: Place | None = None
    """What runs when the mistake does; None where it is no part of a function."""

    def __str__(self) -> str:
        return f"{self.owner}.{self.function}: {self.text}"

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The mistake is made inside."""
        undo = self.apply()
        forget_derived()
        try:
            yield
        finally:
            undo()
            forget_derived()


_filled: list[dict[Any, Any]] = []
"""The caches of programs to which something was added."""


def watch_programs() -> None:
    """From now on it is known what is derived from programs."""

    def cached(self: Program, key: Any, make: Any) -> Any:
        found = self._cache.get(key)
        if found is None:
            _filled.append(self._cache)
            found = self._cache[key] = make()
        return found

    Program.cached = cached  # type: ignore[method-assign]  # the only way to all programs


def settle() -> None:
    """What is in memory stays: it is not walked by the cycle collector."""
    gc.collect()
    gc.freeze()


def forget_derived() -> None:
    """Empty every cache of what was derived from rules, and those of programs that are watched."""
    for filled in _filled:
        filled.clear()
    _filled.clear()
    for primitive in registered().values():
        if isinstance(primitive, General):
            primitive.transposed.clear()
    for cached in caches():
        cached.cache_clear()


@cache
def caches() -> list[Any]:
    """The functions of the operations' modules that remember their results."""
    modules = [m for name, m in sys.modules.items() if name.startswith("vjpkit.ops.")]
    values = [value for module in modules for value in vars(module).values()]
    return [value for value in values if hasattr(value, "cache_clear")]


# ---------------------------------------------------------------------------------- syntax, mutated


def negative(node: ast.expr) -> ast.expr:
    return ast.copy_location(ast.UnaryOp(ast.USub(), node), node)


def opposite(test: ast.expr) -> ast.expr:
    """The other condition."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def is_none_or_words(node: ast.expr) -> bool:
    none = isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str))
    return none or isinstance(node, ast.JoinedStr)


def saves_work(body: ast.expr, orelse: ast.expr) -> bool:
    """Whether a choice is between a value and its real part or conjugate: of real ones, itself."""
    match body:
        case ast.Call(function, [argument]):
            same = ast.unparse(argument) == ast.unparse(orelse)
            return same and ast.unparse(function) in ("np.real", "np.conj", "np.conjugate")
    return False


def is_data(node: ast.expr) -> bool:
    """Whether an expression may be an array; what is true stays so with the other sign."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        if name in TRUTHS or name.startswith(("is_", "has_")):
            return False
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return False
    return not isinstance(
        node, ast.Tuple | ast.List | ast.Constant | ast.Dict | ast.JoinedStr | ast.ListComp
        | ast.GeneratorExp | ast.Lambda | ast.Compare | ast.BoolOp | ast.Starred
    )  # fmt: skip


def replacements(node: ast.AST, modules: set[str]) -> Iterator[ast.expr]:
    """What an expression may be mistaken for; ``modules`` are names that stand for modules."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            yield from (left, right, ast.BinOp(left, ast.Sub(), right))
        case ast.BinOp(left, ast.Sub(), right):
            yield from (left, negative(right), ast.BinOp(left, ast.Add(), right))
        case ast.BinOp(left, ast.MatMult(), right):
            yield from (left, right, ast.BinOp(right, ast.MatMult(), left))
        case ast.BinOp(left, ast.Mult() | ast.BitAnd() | ast.BitOr(), right):
            yield from (left, right)
        case ast.BinOp(left, ast.Div(), right):
            yield from (left, ast.BinOp(left, ast.Mult(), right))
        case ast.BinOp(left, ast.Pow() | ast.FloorDiv() | ast.Mod(), _):
            yield left
        case ast.UnaryOp(ast.USub() | ast.Not() | ast.Invert(), operand):
            yield operand
        case ast.Attribute(value, "T" | "mT" | "real" | "imag") if not names(value, modules):
            yield value
        case ast.Call():
            yield from instead_of_call(node, modules)
        case ast.IfExp(_, body, orelse) if not any(map(is_none_or_words, (body, orelse))):
            if not saves_work(body, orelse):
                yield body
            yield orelse
        case ast.BoolOp(op, values):
            for i in range(len(values)):
                rest = values[:i] + values[i + 1 :]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(not value if isinstance(value, bool) else value + 1)


def names(node: ast.expr, modules: set[str]) -> bool:
    """Whether an expression is the name of a module."""
    return isinstance(node, ast.Name) and node.id in modules


def instead_of_call(node: ast.Call, modules: set[str]) -> Iterator[ast.expr]:
    """A function's first two operands, a method's object, the branches of a choice."""
    function, args = node.func, node.args
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if not name or name in NOT_ARITHMETIC:
        return
    given = [x for x in args[: 3 if name in CHOICES else 2] if not isinstance(x, ast.Starred)]
    yield from (x for i, x in enumerate(given) if not i or is_data(x))
    if not isinstance(function, ast.Attribute) or name in OF_CONTAINERS:
        return
    if not names(function.value, modules):
        yield function.value


def dropped(node: ast.AST) -> Iterator[ast.stmt]:
    """What a statement that changes something may be mistaken for."""
    match node:
        case ast.AugAssign(target, ast.Add() | ast.Sub() as op, value):
            yield ast.Pass()
            other = ast.Sub() if isinstance(op, ast.Add) else ast.Add()
            yield ast.AugAssign(target, other, value)
        case ast.AugAssign() | ast.Assign([ast.Subscript()]):
            yield ast.Pass()


def results(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Places of expressions that a function returns: (parent, field, index)."""
    if isinstance(node, ast.Return) and node.value is not None:
        yield from parts(node, "value", node.value)
    elif isinstance(node, ast.Lambda):
        yield from parts(node, "body", node.body)


def parts(
    parent: ast.AST, field: str, value: ast.expr
) -> Iterator[tuple[ast.AST, str, int | None]]:
    """An expression, or the elements of a tuple or list."""
    if isinstance(value, ast.Tuple | ast.List):
        for i, element in enumerate(value.elts):
            if is_data(element):
                yield value, "elts", i
    elif is_data(value):
        yield parent, field, None


@dataclass(frozen=True)
class Site:
    """A node of a tree, by the way to it, and what takes its place."""

    path: tuple[tuple[str, int | None], ...]
    new: ast.expr | ast.stmt
    old: ast.expr | ast.stmt

    def way(self, tree: ast.Module) -> list[Any]:
        """The nodes from the root of a tree to the place of the mistake."""
        nodes: list[Any] = [tree]
        for field, i in self.path:
            child = getattr(nodes[-1], field)
            nodes.append(child if i is None else child[i])
        return nodes

    def place(self, owner: str, tree: ast.Module) -> Place:
        """The innermost statement or branch that it is in."""
        way = self.way(tree)
        for above, node, (field, _) in zip(way[-2::-1], way[:0:-1], self.path[::-1], strict=True):
            if isinstance(node, ast.stmt) or is_branch(above, field):
                return owner, node.lineno, node.col_offset
        raise AssertionError("a mistake is in a statement")

    def text(self, tree: ast.Module) -> str:
        """The mistake in words; of a constant or a name, the expression that it is in."""
        place = -1
        while isinstance(self.way(tree)[place], ast.Constant | ast.Name) and isinstance(
            self.way(tree)[place - 1], ast.expr
        ):
            place -= 1
        old, new = self.way(tree)[place], self.way(self.mutated(tree))[place]
        return f"{ast.unparse(old)}  ->  {ast.unparse(new)}"

    def mutated(self, tree: ast.Module) -> ast.Module:
        """The tree with the mistake in it: the nodes on the way are copied, the others shared."""
        new: Any = ast.copy_location(copy.deepcopy(self.new), self.old)
        for child in ast.walk(new):
            if not hasattr(child, "lineno"):
                ast.copy_location(child, self.old)
        for node, (field, i) in zip(self.way(tree)[-2::-1], self.path[::-1], strict=True):
            above = copy.copy(node)
            if i is None:
                setattr(above, field, new)
            else:
                children = getattr(node, field)
                setattr(above, field, [*children[:i], new, *children[i + 1 :]])
            new = above
        return ast.fix_missing_locations(new)


def sites(
    node: ast.AST, path: tuple[tuple[str, int | None], ...], modules: set[str]
) -> Iterator[Site]:
    """Every mistake below a node; ``modules`` are names that stand for modules."""
    if isinstance(node, ast.expr):
        for new in replacements(node, modules):
            yield Site(path, new, node)
    elif isinstance(node, ast.stmt):
        for statement in dropped(node):
            yield Site(path, statement, node)
    if isinstance(node, ast.If):
        yield Site((*path, ("test", None)), opposite(node.test), node.test)
    for parent, field, i in results(node):
        old = getattr(parent, field) if i is None else getattr(parent, field)[i]
        inner = path if parent is node else (*path, (result_field(node), None))
        if not (isinstance(old, ast.UnaryOp) and isinstance(old.op, ast.USub)):
            yield Site((*inner, (field, i)), negative(old), old)
    for field, value in ast.iter_fields(node):
        if not_arithmetic(node, field):
            continue
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST):
                step = (field, i if isinstance(value, list) else None)
                yield from sites(child, (*path, step), modules)


def result_field(node: ast.AST) -> str:
    return "body" if isinstance(node, ast.Lambda) else "value"


def is_branch(node: ast.AST, field: str) -> bool:
    """Whether an expression below a node is run when it is chosen or called."""
    return isinstance(node, ast.Lambda | ast.IfExp) and field in ("body", "orelse")


def not_arithmetic(node: ast.AST, field: str) -> bool:
    """Parts of a tree where a mistake would be of another kind: annotations, messages, indices."""
    if isinstance(node, ast.Call) and field == "args":
        return ast.unparse(node.func) == "isinstance"
    if field in ("annotation", "returns", "decorator_list", "type_comment", "args", "defaults"):
        return True
    if isinstance(node, ast.Subscript) and field == "slice":
        return True
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
        return True
    return isinstance(node, ast.Call) and field == "keywords" and ast.unparse(node.func) == "zip"


# --------------------------------------------------------------------------- modules and functions


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """A code object and those in it, in the order of the source."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from codes_in(const)


def positions(code: CodeType) -> tuple[Any, ...]:
    return code.co_qualname, code.co_firstlineno, tuple(code.co_positions())


@dataclass(frozen=True)
class Rule:
    """A function of a module that is a rule, or is called by one.

    ``tree`` holds the imports of the module, which decide how calls are compiled, and the one
    statement that the function is in.
    """

    owner: str
    name: str
    node: ast.AST
    tree: ast.Module
    path: tuple[tuple[str, int | None], ...]
    modules: set[str]

    def sites(self) -> Iterator[tuple[Site, str]]:
        """Every mistake in it, with its words."""
        seen: set[tuple[str, int, int]] = set()
        texts: Counter[str] = Counter()
        for site in sites(self.node, self.path, self.modules):
            at = (ast.unparse(site.new), site.old.lineno, site.old.col_offset)
            if ast.unparse(site.old) == at[0] or at in seen:
                continue
            seen.add(at)
            text = site.text(self.tree)
            texts[text] += 1
            yield site, f"{text}  ({texts[text]})" if texts[text] > 1 else text


class Source:
    """A module's statements, and the functions in memory that were compiled from them."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.owner = module.__name__.removeprefix("vjpkit.")
        self.file = inspect.getsourcefile(module) or ""
        self.body = ast.parse(inspect.getsource(module)).body
        self.modules = {k for k, value in vars(module).items() if isinstance(value, ModuleType)}
        self.functions: dict[tuple[Any, ...], list[FunctionType]] = defaultdict(list)
        for x in gc.get_objects():
            if isinstance(x, FunctionType) and x.__code__.co_filename == self.file:
                self.functions[positions(x.__code__)].append(x)

    def compiled(self, tree: ast.Module) -> CodeType:
        return compile(tree, self.file, "exec", dont_inherit=True)

    def rules(self) -> Iterator[Rule]:
        """Every function that is a rule, or is called by one."""
        reached = called_by_rules()
        imports = [node for node in self.body if isinstance(node, ast.Import | ast.ImportFrom)]
        statement = ("body", len(imports))
        helpers = []
        for node in self.body:

            def rule(
                name: str, part: ast.AST, *path: tuple[str, int | None], node: ast.stmt = node
            ) -> Rule:
                tree = ast.Module([*imports, node], [])
                return Rule(self.owner, name, part, tree, (statement, *path), self.modules)

            if isinstance(node, ast.FunctionDef):
                if (self.owner, node.name) in reached and f"{self.owner}.{node.name}" not in ASIDE:
                    helpers.append(rule(node.name, node))
            elif isinstance(node, ast.ClassDef):
                for j, item in enumerate(node.body):
                    if is_rule(item):
                        yield rule(f"{node.name}.{name_of(item)}", item, ("body", j))
                    elif self.owner in MACHINERY and isinstance(item, ast.FunctionDef):
                        for k, inner in enumerate(item.body):  # what a constructor makes
                            if isinstance(inner, ast.FunctionDef):
                                name = f"{node.name}.{inner.name}"
                                yield rule(name, inner, ("body", j), ("body", k))
        yield from helpers

    def mutants(self, rule: Rule) -> Iterator[Mutant]:
        """Every mutant of a rule by which a function in memory differs."""
        before = list(codes_in(self.compiled(rule.tree)))
        functions = [self.functions.get(positions(code), []) for code in before]
        for site, text in rule.sites():
            # The old expression stays in the code, unreached: closures keep their variables.
            both = Site(site.path, unless_unreached(site), site.old)
            codes = list(codes_in(self.compiled(both.mutated(rule.tree))))
            if len(codes) != len(before):
                continue
            swaps = [
                (function, code)
                for old, code, found in zip(before, codes, functions, strict=True)
                for function in found
                if old.co_code != code.co_code or old.co_consts != code.co_consts
                or old.co_names != code.co_names or old.co_varnames != code.co_varnames
            ]  # fmt: skip
            if swaps:
                place = site.place(self.owner, rule.tree)
                yield Mutant(self.owner, rule.name, site.old.lineno, text, swapped(swaps), place)


def unless_unreached(site: Site) -> ast.expr | ast.stmt:
    """The mistake, and what it is made of where it never runs."""
    if isinstance(site.new, ast.expr) and isinstance(site.old, ast.expr):
        return ast.IfExp(ast.Constant(1), site.new, site.old)
    assert isinstance(site.new, ast.stmt)
    assert isinstance(site.old, ast.stmt)
    return ast.If(ast.Constant(1), [site.new], [site.old])


def swapped(swaps: list[tuple[FunctionType, CodeType]]) -> Callable[[], Callable[[], None]]:
    """What puts code into functions, and gives what puts the former code back."""

    def apply() -> Callable[[], None]:
        before = [(function, function.__code__) for function, _ in swaps]
        put(swaps)
        return lambda: put(before)

    return apply


def put(swaps: list[tuple[FunctionType, CodeType]]) -> None:
    for function, code in swaps:
        function.__code__ = code


def is_rule(item: ast.stmt) -> bool:
    """Whether an item of a class body is a rule, or an attribute that holds rules."""
    if isinstance(item, ast.FunctionDef):
        return item.name not in NOT_RULES
    return isinstance(item, ast.Assign | ast.AnnAssign) and name_of(item) not in NOT_RULES


def name_of(item: ast.stmt) -> str:
    if isinstance(item, ast.FunctionDef):
        return item.name
    target = item.targets[0] if isinstance(item, ast.Assign) else getattr(item, "target", None)
    return target.id if isinstance(target, ast.Name) else ast.unparse(target) if target else ""


@cache
def called_by_rules() -> set[tuple[str, str]]:
    """The functions that rules call, by module and name; all of the machinery's."""
    found: set[tuple[str, str]] = set()
    pending: list[tuple[ModuleType, ast.AST]] = []
    functions: dict[tuple[str, str], tuple[ModuleType, ast.AST]] = {}
    for owner, module in modules_of_rules().items():
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.FunctionDef):
                functions[owner, node.name] = module, node
                if owner in MACHINERY:
                    found.add((owner, node.name))
                    pending.append((module, node))
            elif isinstance(node, ast.ClassDef) and (
                owner in MACHINERY or (module.__name__, node.name) in classes_of_primitives()
            ):
                pending += [(module, item) for item in node.body if is_rule(item)]
    while pending:
        for called in functions_named(*pending.pop()[::-1]):
            if called in functions and called not in found:
                found.add(called)
                pending.append(functions[called])
    return found


@cache
def classes_of_primitives() -> set[tuple[str, str]]:
    """The classes of all primitives and their bases, by module and name."""
    classes = [cls for p in registered().values() for cls in type(p).__mro__]
    return {(cls.__module__, cls.__name__) for cls in classes}


def modules_of_rules() -> dict[str, ModuleType]:
    """The modules of operations, of control flow and of kinds, by their names below vjpkit."""
    packages = [f"vjpkit.{name}" for name in ("ops", "control", "kinds")]
    found = {
        info.name: import_module(info.name)
        for package in packages
        for info in pkgutil.walk_packages(import_module(package).__path__, f"{package}.")
    }
    return {name.removeprefix("vjpkit."): module for name, module in sorted(found.items())}


def functions_named(node: ast.AST, module: ModuleType) -> Iterator[tuple[str, str]]:
    """The functions that a piece of a module's code mentions, by module and name."""
    seen: list[Any] = []
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            seen.append(vars(module).get(child.id))
        elif isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name):
            seen.append(getattr(vars(module).get(child.value.id), child.attr, None))
        elif isinstance(child, ast.ImportFrom):
            late = sys.modules.get(child.module or "")
            seen += [getattr(late, alias.name, None) for alias in child.names]
    for value in map(inspect.unwrap, filter(callable, seen)):
        if isinstance(value, FunctionType):
            yield value.__module__.removeprefix("vjpkit."), value.__name__


def reached_names(node: ast.AST, module: ModuleType) -> set[str]:
    """Names of a module, of attributes and of late imports that a piece of its code mentions."""
    inside = list(ast.walk(node))
    names = {child.id for child in inside if isinstance(child, ast.Name)}
    attributes = {child.attr for child in inside if isinstance(child, ast.Attribute)}
    late = [child for child in inside if isinstance(child, ast.ImportFrom)]
    imported = {alias.name for child in late for alias in child.names}
    return names & set(vars(module)) | attributes | imported


@cache
def mentioned() -> tuple[dict[str, set[str]], dict[tuple[str, str], set[str]]]:
    """Names that the functions of the operations' modules mention; those that the classes do."""
    functions: dict[str, set[str]] = defaultdict(set)
    classes = {}
    for name, module in list(sys.modules.items()):
        if name.startswith(("vjpkit.ops.", "vjpkit.control.", "vjpkit.kinds.")):
            for node in ast.parse(inspect.getsource(module)).body:
                if isinstance(node, ast.FunctionDef):
                    functions[node.name] |= reached_names(node, module)
                elif isinstance(node, ast.ClassDef):
                    classes[name, node.name] = reached_names(node, module)
    return functions, classes


@cache
def batching_names() -> set[str]:
    return reached_names(ast.parse(inspect.getsource(batch)), batch)


@cache
def helpers_of(primitive: Primitive) -> set[str]:
    """The functions and classes that a primitive's class reaches in the modules of operations and
    of control flow, by name."""
    functions, classes = mentioned()
    named: dict[str, set[str]] = defaultdict(set)
    for (_, name), names in classes.items():
        named[name] |= names
    reached: set[str] = set()
    pending = set() if hasattr(primitive, "batch") else set(batching_names())
    for base in type(primitive).__mro__:
        pending |= classes.get((base.__module__, base.__name__), set())
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        if name in functions or name in named:
            reached.add(name)
            pending |= functions.get(name, set()) | named.get(name, set())
    return reached


def concerned(rule: Rule, primitives: list[Primitive]) -> list[Primitive]:
    """The primitives that a rule is of: its class's own, or those that call it."""
    name, *method = rule.name.split(".")
    heirs = [p for p in primitives if any(c.__name__ == name for c in type(p).__mro__)]
    if method and (heirs or rule.owner not in MACHINERY):
        return heirs
    callers = [p for p in primitives if name in helpers_of(p)]
    return sorted(callers, key=lambda p: not type(p).__module__.endswith(rule.owner))


# ------------------------------------------------------------------------------------ declarations


def mutants_of_declarations(primitive: Primitive) -> Iterator[Mutant]:
    """Mistakes in what a class declares without a function."""
    cls: Any = type(primitive)
    owner = cls.__module__.removeprefix("vjpkit.")
    if isinstance(primitive, Elementwise):
        for i, partial in enumerate(cls.partials):
            for wrong in wrong_partials(partial, primitive.arity):
                changed = (*cls.partials[:i], wrong, *cls.partials[i + 1 :])
                yield declared(
                    primitive, owner, "partials", changed, f"[{i}]: {partial!r} -> {wrong!r}"
                )
        for mask in primitive.rules:
            without = tuple(m for m in cls.linear if m != mask)
            more = (*cls.linear, mask)
            change = without if mask in cls.linear else more
            yield declared(primitive, owner, "linear", change, f"{cls.linear} -> {change}")
    if getattr(cls, "singular", False):
        yield declared(primitive, owner, "singular", False, "True -> False")
    for i in getattr(cls, "transposes", {}):
        fewer = {j: t for j, t in cls.transposes.items() if j != i}
        yield declared(primitive, owner, "transposes", fewer, f"without {i}")


def wrong_partials(partial: Any, arity: int) -> list[Any]:
    """What a number, a name or a missing partial may be mistaken for."""
    if partial is None:
        return [1]
    if isinstance(partial, str):
        names = ("x", "out") if arity == 1 else ("x", "y", "out")
        return [name for name in names if name != partial]
    if isinstance(partial, int | float):
        return [-partial, 2 * partial, None]
    return []


def declared(primitive: Primitive, owner: str, attribute: str, value: Any, text: str) -> Mutant:
    """A class attribute with another value; generated rules are generated again."""

    def apply() -> Callable[[], None]:
        cls: Any = type(primitive)
        missing = object()
        before = vars(cls).get(attribute, missing)
        setattr(cls, attribute, value)
        swaps: list[tuple[FunctionType, CodeType]] = []
        if isinstance(primitive, Elementwise) and attribute == "partials":
            swaps = list(regenerated(primitive))

        def undo() -> None:
            if before is missing:
                delattr(cls, attribute)
            else:
                setattr(cls, attribute, before)
            put(swaps)

        return undo

    return Mutant(owner, type(primitive).__name__, 0, f"{attribute} {text}", apply)


def regenerated(primitive: Elementwise) -> Iterator[tuple[FunctionType, CodeType]]:
    """Put newly generated code into the rules; give what was there."""
    for mask, rule in primitive.rules.items():
        source = _RuleSource(primitive, mask)
        source.needs = list(rule.needs)  # rows are laid out as before
        new = source.compile()
        for old, other in ((rule, new), (rule.push, new.push)):
            yield old, old.__code__
            old.__code__ = other.__code__
