"""Functions that many kernels call, compiled once."""

from __future__ import annotations

from functools import cache

from vjpkit.backends.native.code import Code, Value, vector
from vjpkit.backends.native.engine import Effort, Helper

__all__ = [
    "BRING", "FIXED", "ROWS", "SEND", "STAGES", "added", "copied", "deposited", "laid", "moved",
    "total",
]  # fmt: skip

LANES = 8
"""Sums of a block that are added up side by side."""
DOUBT, FAULT = 1, 2
"""Bits of what the functions of a block give: an argument that the fast form does not take, and a
place that is not there."""
SIZES = {"double": 8, "float": 4, "i64": 8, "i8": 1}
"""Bytes of numbers in memory."""


@cache
def copied(kind: str, inward: bool) -> Helper:
    """Copies elements that lie ``%step`` bytes apart, to or from dense ones.

    Inward the last one is repeated up to ``%padded`` elements: loops take several at a time, and
    what they compute beyond the last must not be in doubt where that is not. What is copied are
    bits, whatever they stand for; both ways are one module.
    """
    word = f"i{8 * SIZES[kind]}"
    name = f"vjpkit_{'gather' if inward else 'scatter'}_{word}"
    module = _one_way(word, inward=True) + _one_way(word, inward=False)
    return Helper("void", name, "ptr, ptr, i64, i64, i64", module, Effort.NONE)


def _one_way(word: str, inward: bool) -> str:
    near, far = ("%to", "%from") if inward else ("%from", "%to")
    dense = f"  %d = getelementptr {word}, ptr {near}, i64 %i"
    apart = f"  %s = getelementptr i8, ptr {far}, i64 %o"
    here, there = ("%s", "%d") if inward else ("%d", "%s")
    return f"""define void @vjpkit_{"gather" if inward else "scatter"}_{word}(
    ptr noalias %from, ptr noalias %to, i64 %step, i64 %count, i64 %padded) nounwind {{
entry:
  br label %next
next:
  %i = phi i64 [0, %entry], [%j, %next]
  %o = mul i64 %i, %step
{dense}
{apart}
  %v = load {word}, ptr {here}
  store {word} %v, ptr {there}
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %count
  br i1 %more, label %next, label %{"pad" if inward else "filled"}
{padding(word, "%count", "%v", "next") if inward else ""}filled:
  ret void
}}
"""


def padding(kind: str, count: str, last: str, before: str) -> str:
    """The lines that repeat a number from number ``count`` up to ``%padded`` of ``%to``."""
    return f"""pad:
  %p = phi i64 [{count}, %{before}], [%p1, %again]
  %short = icmp slt i64 %p, %padded
  br i1 %short, label %again, label %filled
again:
  %place1 = getelementptr {kind}, ptr %to, i64 %p
  store {kind} {last}, ptr %place1
  %p1 = add i64 %p, 1
  br label %pad
"""


def _next_run(*fields: str) -> str:
    """The lines that begin a loop over the runs of a block, up to ``%next``, where it goes on.

    Each run is a row of ``%table``, of these fields; ``%count`` elements of it, from ``%at`` on,
    are in the block, after the ``%done`` first ones.
    """
    row = [f"  %r{i} = getelementptr i64, ptr %r0, i64 {i}" for i in range(1, len(fields))]
    row += [f"  %{name} = load i64, ptr %r{i}" for i, name in enumerate(fields)]
    return "\n".join([
        "entry:",
        "  %first = load i64, ptr %cursor",
        "  br label %head",
        "head:",
        "  %c = phi i64 [%first, %entry], [%c2, %next]",
        "  %done = phi i64 [0, %entry], [%done2, %next]",
        f"  %r = mul i64 %c, {len(fields)}",
        "  %r0 = getelementptr i64, ptr %table, i64 %r",
        *row,
        "  %at = add i64 %b, %done",
        "  %left = sub i64 %m, %done",
        "  %room = sub i64 %end, %at",
        "  %ends = icmp sle i64 %room, %left",
        "  %count = select i1 %ends, i64 %room, i64 %left",
        "  %c1 = add i64 %c, 1",
        "  %c2 = select i1 %ends, i64 %c1, i64 %c",
        "  %done2 = add i64 %done, %count",
        "",
    ])  # fmt: skip


@cache
def moved(kind: str) -> Helper:
    """Gives the address of a block of a moved value; ``%cursor`` has its run.

    A block that is padded is a copy.
    """
    module = f"""declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
define ptr @vjpkit_moved_{kind}(
    ptr %sources, ptr %table, ptr %cursor, ptr %to, i64 %b, i64 %m, i64 %padded) nounwind {{
{_next_run("end", "which", "base", "step")}  %dest = getelementptr {kind}, ptr %to, i64 %done
  %bytes = mul i64 %count, {SIZES[kind]}
  %none = icmp slt i64 %which, 0
  br i1 %none, label %zero, label %some
zero:
  call void @llvm.memset.p0.i64(ptr %dest, i8 0, i64 %bytes, i1 false)
  br label %next
some:
  %place = getelementptr ptr, ptr %sources, i64 %which
  %source = load ptr, ptr %place
  %far = mul i64 %step, %at
  %from = add i64 %far, %base
  %there = getelementptr {kind}, ptr %source, i64 %from
  %near = icmp eq i64 %step, 1
  br i1 %near, label %run, label %same
run:
  %all = icmp eq i64 %count, %padded
  br i1 %all, label %whole, label %copy
whole:
  store i64 %c2, ptr %cursor
  ret ptr %there
copy:
  call void @llvm.memcpy.p0.p0.i64(ptr %dest, ptr %there, i64 %bytes, i1 false)
  br label %next
same:
  %x = load {kind}, ptr %there
  br label %fill
fill:
  %k = phi i64 [0, %same], [%k1, %fill]
  %q = getelementptr {kind}, ptr %dest, i64 %k
  store {kind} %x, ptr %q
  %k1 = add i64 %k, 1
  %full = icmp eq i64 %k1, %count
  br i1 %full, label %next, label %fill
next:
  %more = icmp slt i64 %done2, %m
  br i1 %more, label %head, label %out
out:
  store i64 %c2, ptr %cursor
  %count1 = sub i64 %m, 1
  %final = getelementptr {kind}, ptr %to, i64 %count1
  %v = load {kind}, ptr %final
  br label %pad
{padding(kind, "%m", "%v", "out")}filled:
  ret ptr %to
}}
"""
    return Helper("ptr", f"vjpkit_moved_{kind}", "ptr, ptr, ptr, ptr, i64, i64, i64", module)


@cache
def added(kind: str) -> Helper:
    """Adds a block to a total and its rounding error.

    Whole groups of lanes as vectors, then what is left one by one.
    """
    wide, code = vector(kind, LANES), Code(prefix="T")
    lanes = [code.make(f"extractelement {wide} %l, i64 {i}", kind) for i in range(LANES)]
    while len(lanes) > 1:
        lanes = [x + y for x, y in zip(lanes[::2], lanes[1::2], strict=True)]
    rest = Code(prefix="N")
    sofar, error, block = (Value(rest, f"%{c}", kind) for c in ("sofar", "error", "sum"))
    new = sofar + block
    larger = rest.intrinsic("fabs", sofar) >= rest.intrinsic("fabs", block)
    lost = error + larger.choose((sofar - new) + block, (block - new) + sofar)
    body, end = ("\n".join(f"  {line}" for line in c.lines) for c in (code, rest))
    name = f"vjpkit_add_{kind}"
    module = f"""{chr(10).join(sorted(rest.declared))}
define void @{name}(ptr %total, ptr %from, i64 %m) nounwind {{
entry:
  %n = and i64 %m, {-LANES}
  %a = icmp sgt i64 %n, 0
  br i1 %a, label %several, label %whole
several:
  %i = phi i64 [0, %entry], [%j, %several]
  %s = phi {wide} [zeroinitializer, %entry], [%t, %several]
  %p = getelementptr {kind}, ptr %from, i64 %i
  %x = load {wide}, ptr %p, align {SIZES[kind]}
  %t = fadd {wide} %s, %x
  %j = add i64 %i, {LANES}
  %e = icmp eq i64 %j, %n
  br i1 %e, label %whole, label %several
whole:
  %l = phi {wide} [zeroinitializer, %entry], [%t, %several]
{body}
  %b = icmp slt i64 %n, %m
  br i1 %b, label %single, label %done
single:
  %k = phi i64 [%n, %whole], [%k1, %single]
  %u = phi {kind} [{lanes[0].name}, %whole], [%u1, %single]
  %q = getelementptr {kind}, ptr %from, i64 %k
  %y = load {kind}, ptr %q
  %u1 = fadd {kind} %u, %y
  %k1 = add i64 %k, 1
  %f = icmp eq i64 %k1, %m
  br i1 %f, label %done, label %single
done:
  %sum = phi {kind} [{lanes[0].name}, %whole], [%u1, %single]
  %errors = getelementptr {kind}, ptr %total, i64 1
  %sofar = load {kind}, ptr %total
  %error = load {kind}, ptr %errors
{end}
  store {kind} {new.name}, ptr %total
  store {kind} {lost.name}, ptr %errors
  ret void
}}
"""
    return Helper("void", name, "ptr, ptr, i64", module)


@cache
def total(kind: str) -> Helper:
    """Stores a total; an infinite or undefined one has no error to add."""
    code = Code()
    sofar, error = (Value(code, f"%{c}", kind) for c in ("sofar", "error"))
    result = (error - error).equals(0.0).choose(sofar + error, sofar)
    body = "\n".join(f"  {line}" for line in code.lines)
    name = f"vjpkit_total_{kind}"
    module = f"""define void @{name}(ptr %total, ptr %to) nounwind {{
  %errors = getelementptr {kind}, ptr %total, i64 1
  %sofar = load {kind}, ptr %total
  %error = load {kind}, ptr %errors
{body}
  store {kind} {result.name}, ptr %to
  ret void
}}
"""
    return Helper("void", name, "ptr, ptr", module)


TOGETHER = 4
"""Arrays to which numbers are added at the same places in one loop."""


@cache
def deposited(kind: str, count: int) -> Helper:
    """Adds blocks of numbers to elements of ``count`` arrays, one after the other.

    The arrays may be one: what is added to an element is added in turn.
    """
    name = f"vjpkit_deposit_{kind}_{count}"
    arrays = ", ".join(f"ptr %to{k}, ptr noalias %from{k}" for k in range(count))
    added = "\n".join(
        f"""  %f{k} = getelementptr {kind}, ptr %from{k}, i64 %i
  %x{k} = load {kind}, ptr %f{k}
  %t{k} = getelementptr {kind}, ptr %to{k}, i64 %place
  %y{k} = load {kind}, ptr %t{k}
  %z{k} = fadd {kind} %y{k}, %x{k}
  store {kind} %z{k}, ptr %t{k}"""
        for k in range(count)
    )
    module = f"""define void @{name}({arrays}, ptr noalias %places, i64 %m) nounwind {{
entry:
  br label %next
next:
  %i = phi i64 [0, %entry], [%j, %next]
  %p = getelementptr i64, ptr %places, i64 %i
  %place = load i64, ptr %p
{added}
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %m
  br i1 %more, label %next, label %done
done:
  ret void
}}
"""
    return Helper("void", name, ", ".join(["ptr"] * (2 * count + 1) + ["i64"]), module)


@cache
def laid(kind: str, alone: bool) -> Helper:
    """Lays a block of a value along its runs; ``%cursor`` has the run, ``%front`` the place up to
    which the result has been written.

    What is there is added to. What is not is the sum with a zero, or the value itself where it is
    ``alone``: of numbers that are assigned, zeros keep their sign.
    """
    name = f"vjpkit_laid_{kind}{'_alone' if alone else ''}"
    new = f"bitcast {kind} %u to {kind}" if alone else f"fadd {kind} %u, 0.0"
    module = f"""declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)
define void @{name}(ptr noalias %to, ptr noalias %from, ptr noalias %table,
    ptr noalias %cursor, ptr noalias %front, i64 %b, i64 %m) nounwind {{
{_next_run("end", "base")}  %place = add i64 %at, %base
  %stop = add i64 %place, %count
  %sofar = load i64, ptr %front
  %dest = getelementptr {kind}, ptr %to, i64 %place
  %source = getelementptr {kind}, ptr %from, i64 %done
  %gap = sub i64 %place, %sofar
  %skips = icmp sgt i64 %gap, 0
  br i1 %skips, label %clear, label %clean
clear:
  %bytes = mul i64 %gap, {SIZES[kind]}
  %hole = getelementptr {kind}, ptr %to, i64 %sofar
  call void @llvm.memset.p0.i64(ptr %hole, i8 0, i64 %bytes, i1 false)
  br label %clean
clean:
  %edge = call i64 @llvm.smax.i64(i64 %sofar, i64 %place)
  %cut = call i64 @llvm.smin.i64(i64 %edge, i64 %stop)
  %old = sub i64 %cut, %place
  %further = call i64 @llvm.smax.i64(i64 %sofar, i64 %stop)
  store i64 %further, ptr %front
  %some = icmp sgt i64 %old, 0
  br i1 %some, label %add, label %added
add:
  %i = phi i64 [0, %clean], [%i1, %add]
  %x0 = getelementptr {kind}, ptr %source, i64 %i
  %x = load {kind}, ptr %x0
  %y0 = getelementptr {kind}, ptr %dest, i64 %i
  %y = load {kind}, ptr %y0
  %z = fadd {kind} %y, %x
  store {kind} %z, ptr %y0
  %i1 = add i64 %i, 1
  %again = icmp slt i64 %i1, %old
  br i1 %again, label %add, label %added
added:
  %fresh = icmp slt i64 %old, %count
  br i1 %fresh, label %write, label %next
write:
  %k = phi i64 [%old, %added], [%k1, %write]
  %u0 = getelementptr {kind}, ptr %source, i64 %k
  %u = load {kind}, ptr %u0
  %v0 = getelementptr {kind}, ptr %dest, i64 %k
  %v = {new}
  store {kind} %v, ptr %v0
  %k1 = add i64 %k, 1
  %on = icmp slt i64 %k1, %count
  br i1 %on, label %write, label %next
next:
  %more = icmp slt i64 %done2, %m
  br i1 %more, label %head, label %out
out:
  store i64 %c2, ptr %cursor
  ret void
}}
"""
    return Helper("void", name, "ptr, ptr, ptr, ptr, ptr, i64, i64", module, Effort.VECTORS)


def _copying(name: str, inward: bool) -> str:
    away = (
        """  store ptr %w, ptr %slot
  %inward = icmp slt i64 %j, %ins
  br i1 %inward, label %copy, label %last"""
        if inward
        else "  br label %copy"
    )
    here = (
        """  %o = mul i64 %b, %size
  %q = getelementptr i8, ptr %base, i64 %o
  store ptr %q, ptr %slot
"""
        if inward
        else ""
    )
    first, given = ("0", "ptr %x, ptr %w") if inward else ("%ins", "ptr %w, ptr %x")
    return f"""define void @{name}(
    ptr %table, ptr %copies, ptr %args, ptr %steps, ptr %places, ptr %near, i64 %b, i64 %m,
    i64 %padded) nounwind {{
entry:
  %t1 = getelementptr i64, ptr %table, i64 1
  %t2 = getelementptr i64, ptr %table, i64 2
  %count = load i64, ptr %table
  %ins = load i64, ptr %t1
  %row = load i64, ptr %t2
  %whole = icmp eq i64 %m, %padded
  br label %head
head:
  %j = phi i64 [{first}, %entry], [%j1, %last]
  %end = icmp eq i64 %j, %count
  br i1 %end, label %done, label %next
next:
  %j4 = mul i64 %j, 4
  %e0 = getelementptr i64, ptr %t2, i64 %j4
  %e1 = getelementptr i64, ptr %e0, i64 1
  %e2 = getelementptr i64, ptr %e0, i64 2
  %e3 = getelementptr i64, ptr %e0, i64 3
  %e4 = getelementptr i64, ptr %e0, i64 4
  %place = load i64, ptr %e1
  %operand = load i64, ptr %e2
  %at = load i64, ptr %e3
  %size = load i64, ptr %e4
  %arg = getelementptr ptr, ptr %args, i64 %operand
  %base = load ptr, ptr %arg
  %slot = getelementptr ptr, ptr %places, i64 %place
  %flat = icmp slt i64 %at, 0
  br i1 %flat, label %known, label %asked
asked:
  %sp = getelementptr i64, ptr %steps, i64 %at
  %s = load i64, ptr %sp
  br label %known
known:
  %step = phi i64 [%size, %next], [%s, %asked]
  %dense = icmp eq i64 %step, %size
  %direct = and i1 %dense, %whole
  br i1 %direct, label %here, label %away
here:
{here}  br label %last
away:
  %far = mul i64 %j, %row
  %w = getelementptr i8, ptr %near, i64 %far
{away}
copy:
  %o1 = mul i64 %b, %step
  %x = getelementptr i8, ptr %base, i64 %o1
  %fp = getelementptr ptr, ptr %copies, i64 %j
  %f = load ptr, ptr %fp
  call void %f({given}, i64 %step, i64 %m, i64 %padded)
  br label %last
last:
  %j1 = add i64 %j, 1
  br label %head
done:
  ret void
}}
"""


_FIXED = """define void @vjpkit_fixed(ptr %table, ptr %args, ptr %places) nounwind {
entry:
  %count = load i64, ptr %table
  br label %head
head:
  %i = phi i64 [0, %entry], [%j, %next]
  %e = phi ptr [%table, %entry], [%e2, %next]
  %end = icmp eq i64 %i, %count
  br i1 %end, label %done, label %next
next:
  %e1 = getelementptr i64, ptr %e, i64 1
  %e2 = getelementptr i64, ptr %e, i64 2
  %place = load i64, ptr %e1
  %operand = load i64, ptr %e2
  %arg = getelementptr ptr, ptr %args, i64 %operand
  %base = load ptr, ptr %arg
  %slot = getelementptr ptr, ptr %places, i64 %place
  store ptr %base, ptr %slot
  %j = add i64 %i, 1
  br label %head
done:
  ret void
}
"""
_STAGES = f"""define internal i64 @all(
    ptr %functions, ptr %arguments, ptr %places, i64 %m) nounwind {{
entry:
  br label %head
head:
  %f = phi ptr [%functions, %entry], [%f1, %call]
  %a = phi ptr [%arguments, %entry], [%a1, %call]
  %flags = phi i64 [0, %entry], [%flags1, %call]
  %function = load ptr, ptr %f
  %done = icmp eq ptr %function, null
  br i1 %done, label %end, label %call
call:
  %count = load i64, ptr %a
  %given = getelementptr i64, ptr %a, i64 1
  %flag = call i64 %function(ptr %given, ptr %places, i64 %m)
  %flags1 = or i64 %flags, %flag
  %f1 = getelementptr ptr, ptr %f, i64 1
  %a1 = getelementptr i64, ptr %given, i64 %count
  br label %head
end:
  ret i64 %flags
}}
define i64 @vjpkit_stages(
    ptr %functions, ptr %arguments, ptr %exact, ptr %others, ptr %places, i64 %m) nounwind {{
entry:
  %flags = call i64 @all(ptr %functions, ptr %arguments, ptr %places, i64 %m)
  %doubt = and i64 %flags, {DOUBT}
  %sure = icmp eq i64 %doubt, 0
  br i1 %sure, label %end, label %again
again:
  %found = call i64 @all(ptr %exact, ptr %others, ptr %places, i64 %m)
  ret i64 %found
end:
  ret i64 %flags
}}
"""
_ROWS = """define void @vjpkit_rows(ptr %table, ptr %first, i64 %count, i64 %bytes) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [0, %entry], [%j, %next]
  %far = mul i64 %i, %bytes
  %row = getelementptr i8, ptr %first, i64 %far
  %place = getelementptr ptr, ptr %table, i64 %i
  store ptr %row, ptr %place
  %j = add i64 %i, 1
  %end = icmp eq i64 %j, %count
  br i1 %end, label %done, label %next
done:
  ret void
}
"""
BLOCKS = "\n".join([
    _copying("vjpkit_bring", inward=True), _copying("vjpkit_send", inward=False), _FIXED, _STAGES,
    _ROWS,
])  # fmt: skip
"""What all kernels of blocks need, in one module: each takes a while to be loaded."""

BRING, SEND = (
    Helper("void", name, "ptr, ptr, ptr, ptr, ptr, ptr, i64, i64, i64", BLOCKS, Effort.NONE)
    for name in ("vjpkit_bring", "vjpkit_send")
)
"""Find where the blocks of arrays lie, for which what does not lie element after element is copied
to scratch first; and copy results from there."""

FIXED = Helper("void", "vjpkit_fixed", "ptr, ptr, ptr", BLOCKS, Effort.NONE)
"""Writes down the addresses of what is not read block by block."""

STAGES = Helper("i64", "vjpkit_stages", "ptr, ptr, ptr, ptr, ptr, i64", BLOCKS, Effort.NONE)
"""Calls functions, the last of which is null, with their arguments: how many, and then these.

Where there are doubts, others compute everything again.
"""

ROWS = Helper("void", "vjpkit_rows", "ptr, ptr, i64, i64", BLOCKS, Effort.NONE)
"""Writes down the addresses of rows that lie one behind the other."""
