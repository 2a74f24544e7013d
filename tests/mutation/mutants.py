"""Mutants of the rules of primitives: one small mistake each, made in the running code for a while.

A rule is what a primitive's class says about derivatives, batching and linearity: its methods other
than ``impl``, ``abstract`` and ``samples``, the functions among its attributes, and the functions
of its module that these call. The machinery of control flow, which makes programs from programs,
counts as rules as a whole. A mutant changes one node of the syntax tree of such a function (a
sign, a term, a factor, a call replaced by its argument, a constant); the module is compiled again,
and the code objects that differ are put into the functions that exist. Declarations that are no
functions (numbers among the partials, ``linear``, ``singular``, ...) are changed on the class.
"""

from __future__ import annotations

import ast
import copy
import gc
import inspect
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

from vjpkit.core.ir import Program
from vjpkit.core.primitive import Primitive, registered
from vjpkit.kinds import Elementwise, General
from vjpkit.kinds.elementwise import _RuleSource
from vjpkit.transforms import batch

__all__ = ["MACHINERY", "Mutant", "Rule", "Source", "concerned", "mutants_of_declarations"]

MACHINERY = tuple([
    f"control.{name}"
    for name in (
        "bodies", "higher", "implicit", "layout", "loop", "mapped_rules", "programs", "rules",
        "scan_split", "steps",
    )
])  # fmt: skip
"""Modules in which every function and method is a rule."""

NOT_RULES = {
    "__call__", "__init__", "abstract", "aids", "canonical", "core_ndims", "exempt", "fixed",
    "impl", "out_dtype", "quick", "read", "real_value", "record", "samples", "ufunc",
    "unknown",
}  # fmt: skip
"""Methods that say what is computed, not how it is differentiated."""

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

    def __str__(self) -> str:
        return f"{self.owner}.{self.function}: {self.text}"

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The mistake is made inside."""
        undo = self.apply()
        machinery = self.owner.startswith("control.")
        forget_derived(machinery)
        try:
            yield
        finally:
            undo()
            forget_derived(machinery)


def forget_derived(programs: bool) -> None:
    """Empty every cache of what was derived from rules; with ``programs``, those of programs."""
    if programs:
        for x in gc.get_objects():
            if type(x) is Program:
                x._cache.clear()
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


def is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def saves_work(body: ast.expr, orelse: ast.expr) -> bool:
    """Whether a choice is between a value and its real part or conjugate: of real ones, itself."""
    match body:
        case ast.Call(function, [argument]):
            same = ast.unparse(argument) == ast.unparse(orelse)
            return same and ast.unparse(function) in ("np.real", "np.conj", "np.conjugate")
    return False


def is_data(node: ast.expr) -> bool:
    """Whether an expression may be an array."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("bool", "all", "any", "len"):
        return False
    return not isinstance(
        node, ast.Tuple | ast.List | ast.Constant | ast.Dict | ast.JoinedStr | ast.ListComp
        | ast.GeneratorExp | ast.Lambda | ast.Compare | ast.BoolOp | ast.Starred
    )  # fmt: skip


def replacements(node: ast.AST) -> Iterator[ast.expr]:
    """What an expression may be mistaken for."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            yield from (left, right, ast.BinOp(left, ast.Sub(), right))
        case ast.BinOp(left, ast.Sub(), right):
            yield from (left, negative(right), ast.BinOp(left, ast.Add(), right))
        case ast.BinOp(left, ast.Mult() | ast.MatMult(), right):
            yield from (left, right)
        case ast.BinOp(left, ast.Div(), right):
            yield from (left, ast.BinOp(left, ast.Mult(), right))
        case ast.BinOp(left, ast.Pow(), _):
            yield left
        case ast.UnaryOp(ast.USub(), operand):
            yield operand
        case ast.Call(function, [first, *_]) if not isinstance(first, ast.Starred):
            name = (
                function.attr
                if isinstance(function, ast.Attribute)
                else getattr(function, "id", "")
            )
            if name not in NOT_ARITHMETIC and name[:1] != "_" * (name[:1].isupper()):
                yield first
        case ast.IfExp(_, body, orelse) if not (is_none(body) or is_none(orelse)):
            if not saves_work(body, orelse):
                yield body
            yield orelse
        case ast.Constant(int() | float() as value) if not isinstance(value, bool):
            yield ast.Constant(value + 1)


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
    new: ast.expr
    old: ast.expr

    def way(self, tree: ast.Module) -> list[Any]:
        """The nodes from the root of a tree to the place of the mistake."""
        nodes: list[Any] = [tree]
        for field, i in self.path:
            child = getattr(nodes[-1], field)
            nodes.append(child if i is None else child[i])
        return nodes

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
    node: ast.AST, path: tuple[tuple[str, int | None], ...], skip: Callable[[ast.AST, str], bool]
) -> Iterator[Site]:
    """Every mistake below a node."""
    if isinstance(node, ast.expr):
        for new in replacements(node):
            yield Site(path, new, node)
    for parent, field, i in results(node):
        old = getattr(parent, field) if i is None else getattr(parent, field)[i]
        inner = path if parent is node else (*path, (result_field(node), None))
        if not (isinstance(old, ast.UnaryOp) and isinstance(old.op, ast.USub)):
            yield Site((*inner, (field, i)), negative(old), old)
    for field, value in ast.iter_fields(node):
        if skip(node, field):
            continue
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST):
                step = (field, i if isinstance(value, list) else None)
                yield from sites(child, (*path, step), skip)


def result_field(node: ast.AST) -> str:
    return "body" if isinstance(node, ast.Lambda) else "value"


def not_arithmetic(node: ast.AST, field: str) -> bool:
    """Parts of a tree where a mistake would be of another kind: annotations, messages, indices."""
    if field in ("annotation", "returns", "decorator_list", "type_comment", "args", "defaults"):
        return field != "args" or not isinstance(node, ast.Call)
    if isinstance(node, ast.Subscript) and field == "slice":
        return True
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
        return True
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("range", "len", "isinstance")


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

    def sites(self) -> Iterator[tuple[Site, str]]:
        """Every mistake in it, with its words."""
        seen: set[tuple[str, int, int]] = set()
        texts: Counter[str] = Counter()
        for site in sites(self.node, self.path, not_arithmetic):
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
        self.owner = module.__name__.removeprefix("vjpkit.")
        self.file = inspect.getsourcefile(module) or ""
        self.body = ast.parse(inspect.getsource(module)).body
        self.functions: dict[tuple[Any, ...], list[FunctionType]] = defaultdict(list)
        for x in gc.get_objects():
            if isinstance(x, FunctionType) and x.__code__.co_filename == self.file:
                self.functions[positions(x.__code__)].append(x)

    def compiled(self, tree: ast.Module) -> CodeType:
        return compile(tree, self.file, "exec", dont_inherit=True)

    def rules(self) -> Iterator[Rule]:
        """Every function that is a rule, or is called by one."""
        helpers: dict[str, tuple[ast.AST, ast.Module]] = {}
        roots = []
        whole = self.owner in MACHINERY
        imports = [node for node in self.body if isinstance(node, ast.Import | ast.ImportFrom)]
        statement = ("body", len(imports))
        for node in self.body:
            tree = ast.Module([*imports, node], [])
            if isinstance(node, ast.FunctionDef) and whole:
                roots.append(Rule(self.owner, node.name, node, tree, (statement,)))
            elif isinstance(node, ast.FunctionDef):
                helpers[node.name] = node, tree
            elif isinstance(node, ast.ClassDef):
                for j, item in enumerate(node.body):
                    if is_rule(item):
                        name = f"{node.name}.{name_of(item)}"
                        roots.append(Rule(self.owner, name, item, tree, (statement, ("body", j))))
        yield from roots
        pending: list[ast.AST] = [rule.node for rule in roots]
        reached: set[str] = set()
        while pending:
            for child in ast.walk(pending.pop()):
                name = child.id if isinstance(child, ast.Name) else ""
                if name in helpers and name not in reached:
                    reached.add(name)
                    function, tree = helpers[name]
                    pending.append(function)
                    yield Rule(self.owner, name, function, tree, (statement,))

    def mutants(self, rule: Rule) -> Iterator[Mutant]:
        """Every mutant of a rule by which a function in memory differs."""
        before = list(codes_in(self.compiled(rule.tree)))
        functions = [self.functions.get(positions(code), []) for code in before]
        for site, text in rule.sites():
            # The old expression stays in the code, unreached: closures keep their variables.
            both = Site(site.path, ast.IfExp(ast.Constant(1), site.new, site.old), site.old)
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
                yield Mutant(self.owner, rule.name, site.old.lineno, text, swapped(swaps))


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
        if name.startswith(("vjpkit.ops.", "vjpkit.control.")):
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
