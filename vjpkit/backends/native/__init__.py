"""The native tier: groups of equations as machine code, by LLVM (`vjpkit[native]`: llvmlite).

A *kernel* is one loop nest of LLVM text, compiled to the inner loop of a NumPy ufunc: NumPy then
reads the operands (strides, broadcasting, dtypes, overlap, ``out=``) and allocates the results, and
no code of ours looks into an array. An elementwise group is a ufunc of as many operands and results
as it reads and makes; a group that ends in sums over everything is a generalised ufunc whose core
dimension is the flattened array; loops are generalised ufuncs too, whose core dimensions are their
operands' sizes: staged ones over a small state, and those over rows of arrays.

``code``
    Values in single assignment, written down as LLVM text.
``functions``
    Elementary functions of such values, branch-free, so that loops over them become vector code.
``helpers``
    What kernels of all groups call, compiled once.
``kernels``
    Elementwise groups as kernels.
``places``
    What kernels take from elsewhere (rolled, joined, read at computed places) or add elsewhere.
``steps``, ``loops``
    What one step of a loop computes in registers, and the loop around it.
``indices``
    Elements of a step that are read and written at computed places.
``straight``
    Groups over small arrays, element by element: loops of one step.
``again``
    Cheap values that a kernel computes again rather than reads.
``chains``
    Loops, and what little lies between them, as one function.
``rows``, ``wide``
    Groups that compute rows from rows: short ones in registers, many at a time; longer ones one
    after the other, in the cache.
``engine``
    LLVM and ctypes: text to object code (kept on disk), object code to a ufunc. All that touches
    either is in that file.
``source``
    The program around the kernels: the NumPy tier's source, in which groups are kernels.

No flag lets LLVM reassociate or contract: a result depends on the text alone, not on the machine's
vector width. Kernels raise no floating-point warnings.
"""

from __future__ import annotations

from vjpkit.backends.native.source import lower_native

__all__ = ["lower_native"]
