"""LLVM and ctypes: text to object code, object code to a ufunc. Nothing else touches either.

Object code is kept on disk by a hash of the text, the processor and the versions that made it, in a
folder of the user's alone; what does not carry its own checksum, or lies in somebody else's folder,
is not loaded. ``VJPKIT_CACHE`` names another folder, or switches it off where it is empty.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, finalize

import numpy as np

from vjpkit.backends.forks import UNFORKED
from vjpkit.backends.numpy_source import Unavailable

__all__ = ["Effort", "Helper", "available", "host", "machine_code", "ufunc"]

FROM_FUNCTION, FROM_FUNCTION_AND_SIGNATURE = 1, 31
"""Places of ``PyUFunc_FromFuncAndData`` and ``...AndSignature`` in NumPy's table of functions."""
LARGEST_CACHE = 64 << 20
"""Bytes of object code kept on disk; the least recently used goes first."""
LONGEST_WRITE = 3600
"""Seconds after which a file that is still being written has been given up."""
KEPT: list[Any] = []
"""What is needed as long as the process lives."""
DEAD: list[tuple[Any, list[Any]]] = []
"""What no ufunc points to any more. It is disposed of when something is compiled next: whatever
runs when a ufunc dies, LLVM's lock may be held."""


@dataclass(frozen=True)
class Host:
    """LLVM for this machine."""

    llvm: Any
    processor: str
    features: str
    key: str
    vector_bits: int
    has_control_register: bool
    """Whether vectors of doubles have a register of exceptions that LLVM can name."""

    def target(self) -> Any:
        """A target machine; an engine takes one for its own."""
        return self.llvm.Target.from_default_triple().create_target_machine(
            cpu=self.processor, features=self.features, opt=3, jit=True, reloc="pic"
        )


@cache
def host() -> Host:
    """LLVM, set up once; `Unavailable` says what is missing."""
    try:
        import llvmlite
        import llvmlite.binding as llvm
    except ImportError as error:
        raise Unavailable(
            "the native tier needs llvmlite, which is not installed: pip install vjpkit[native]"
        ) from error
    with suppress(RuntimeError):  # newer versions do it by themselves
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    name, flat = llvm.get_host_cpu_name(), features.flatten()
    if not (features.get("fma") or "aarch64" in llvm.get_process_triple()):
        raise Unavailable("the native tier needs a processor with fused multiply-add")
    versions = llvmlite.__version__, np.__version__, sys.version, name, flat
    bits = 512 if features.get("avx512f") else 256
    has_control_register = "x86_64" in llvm.get_process_triple()
    return Host(llvm, name, flat, repr(versions), bits, has_control_register)


def available() -> bool:
    """Whether programs can be compiled here."""
    try:
        host()
    except Unavailable:
        return False
    return True


# ------------------------------------------------------------------------------------- object code


class Effort(Enum):
    """Which of LLVM's passes improve a module: their level, and what they find."""

    NONE = 0
    """It is compiled as it stands: most of the time goes into passes."""
    TIDY = 2
    """What is repeated, or does not change in a loop, is computed once."""
    VECTORS = 3
    """Loops over numbers become vector code, and are unrolled."""


@dataclass(frozen=True)
class Helper:
    """A function that modules may call: its result, its name, its operands, and its module."""

    result: str
    name: str
    operands: str
    module: str
    effort: Effort = Effort.TIDY

    @property
    def declaration(self) -> str:
        return f"declare {self.result} @{self.name}({self.operands})"


@cache
def provide(helper: Helper) -> None:
    """Let modules call a function by its name."""
    loaded = machine_code(helper.module, helper.effort)
    KEPT.append(loaded)
    host().llvm.add_symbol(helper.name, loaded.address(helper.name))


class Loaded:
    """A module's machine code, and the tables of the ufuncs that are made of it."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.tables: list[Any] = []
        finalize(self, DEAD.append, (engine, self.tables)).atexit = False

    def address(self, name: str) -> int:
        """Where a function lies."""
        return int(self.engine.get_function_address(name))


LOADED: WeakValueDictionary[str, Loaded] = WeakValueDictionary()
"""By its key what is loaded, as long as a ufunc points to it."""


def machine_code(text: str, effort: Effort) -> Loaded:
    """The functions of a module of LLVM text."""
    with UNFORKED:
        while DEAD:
            DEAD.pop()[0].close()
        found = host()
        llvm = found.llvm
        key = hashlib.sha256(f"{found.key}\n{effort}\n{text}".encode()).hexdigest()
        loaded = LOADED.get(key)
        if loaded is not None:
            return loaded
        code = read_cached(key)
        if code is None:
            code = compiled(found, text, effort)
            write_cached(key, code)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), found.target())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        loaded = LOADED[key] = Loaded(engine)
        return loaded


def compiled(found: Host, text: str, effort: Effort) -> bytes:
    """Object code of a module; nothing is reassociated."""
    llvm = found.llvm
    module = llvm.parse_assembly(text)
    module.verify()
    target = found.target()
    if effort is not Effort.NONE:
        tuning = llvm.create_pipeline_tuning_options(speed_level=effort.value)
        vectors = effort is Effort.VECTORS
        tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = vectors
        builder = llvm.create_pass_builder(target, tuning)
        builder.getModulePassManager().run(module, builder)
    return bytes(target.emit_object(module))


@cache
def folder() -> Path | None:
    """Where object code is kept; None where it is not, or where that would not be safe."""
    chosen = os.environ.get("VJPKIT_CACHE")
    if chosen == "" or not hasattr(os, "getuid"):
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(chosen) if chosen else Path(home) / "vjpkit"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except (OSError, RuntimeError):
        return None
    private = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return path if private else None


def read_cached(key: str) -> bytes | None:
    """Object code from disk: a checksum, then the code."""
    place = folder()
    if place is None:
        return None
    path = place / f"{key}.o"
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    checksum, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == checksum else None


def write_cached(key: str, code: bytes) -> None:
    """Keep object code: written aside and renamed, so that readers see all of it or nothing."""
    place = folder()
    if place is None:
        return
    with suppress(OSError):
        handle, name = tempfile.mkstemp(dir=place, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        Path(name).replace(place / f"{key}.o")
        if key.startswith("0"):  # one of 16: looking at all files takes a while
            trim(place)


def trim(place: Path) -> None:
    """Remove the least recently used files above `LARGEST_CACHE`, and remains of broken writes."""
    files = sorted([(p.stat().st_mtime, p) for p in place.iterdir()], reverse=True)
    total = 0
    for when, path in files:
        total += path.stat().st_size
        broken = path.suffix == ".part" and when < time.time() - LONGEST_WRITE
        if total > LARGEST_CACHE or broken:
            path.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------ ufuncs


def _ufunc_maker(place: int, *extra: Any) -> Callable[..., Any]:
    """A function of NumPy's C interface that makes a ufunc."""
    read = ctypes.pythonapi.PyCapsule_GetPointer
    read.restype, read.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    umath = np._core._multiarray_umath  # type: ignore[attr-defined]  # where NumPy puts its table
    table = ctypes.cast(read(umath._UFUNC_API, None), ctypes.POINTER(ctypes.c_void_p))
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    kind = ctypes.PYFUNCTYPE(
        ctypes.py_object, pointer, pointer, text, *[number] * 4, text, text, number, *extra
    )
    return kind(table[place])


def ufunc(
    text: str,
    name: str,
    dtypes: tuple[np.dtype[Any], ...],
    nin: int,
    signature: str | None,
    effort: Effort = Effort.TIDY,
    helpers: tuple[Helper, ...] = (),
) -> np.ufunc:
    """The loop ``name`` of a module, as a ufunc of operands and results of these dtypes.

    ``helpers`` are what the module calls. The machine code lives as long as a ufunc of it; with a
    NumPy whose ufuncs have no attributes, as long as the process.
    """
    with UNFORKED:
        for helper in helpers:
            provide(helper)
        loaded = machine_code(text, effort)
    loops, data = (ctypes.c_void_p * 1)(loaded.address(name)), (ctypes.c_void_p * 1)(None)
    types = bytes([dtype.num for dtype in dtypes])
    label = name.encode()
    loaded.tables.append((loops, data, types, label))
    cast = ctypes.cast
    arguments = (
        cast(loops, ctypes.c_void_p), cast(data, ctypes.c_void_p), types, 1, nin,
        len(dtypes) - nin, -1, label, b"", 0,
    )  # fmt: skip
    if signature is None:
        made = _ufunc_maker(FROM_FUNCTION)(*arguments)
    else:
        maker = _ufunc_maker(FROM_FUNCTION_AND_SIGNATURE, ctypes.c_char_p)
        made = maker(*arguments, signature.encode())
    try:
        made.loaded = loaded
    except AttributeError:
        KEPT.append(loaded)
    return made  # type: ignore[no-any-return]
