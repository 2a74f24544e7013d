"""The core: values, programs, traces and primitives. Read it in this order.

`aval` (what is known of a value), `ir` and `text` (programs), `tracer` (who decides what an
operation does), `rows` (eager recording and the two walks), `staging`, `evaluate`, `primitive`.
The kinds of primitives are in `vjpkit.kinds`, the primitives in `vjpkit.ops`.
"""

from vjpkit.core.aval import Aval
from vjpkit.core.errors import (
    ClosedTraceError,
    NotDifferentiableError,
    NotLinearError,
    Source,
    TracerConversionError,
    UnsupportedError,
)
from vjpkit.core.ir import Equation, Literal, Program, Var, check
from vjpkit.core.primitive import PRIMITIVES, Primitive, Sample, primitive
from vjpkit.core.tracer import Tracer

__all__ = [
    "PRIMITIVES",
    "Aval",
    "ClosedTraceError",
    "Equation",
    "Literal",
    "NotDifferentiableError",
    "NotLinearError",
    "Primitive",
    "Program",
    "Sample",
    "Source",
    "Tracer",
    "TracerConversionError",
    "UnsupportedError",
    "Var",
    "check",
    "primitive",
]
