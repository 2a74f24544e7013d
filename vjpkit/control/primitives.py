"""Every module of control flow and rules that declares a primitive.

They are loaded when first used, and all at once by whoever looks for a primitive that is not there
yet, or for all of them: the reader of programs' text, a pickle, the generated tests.
"""

from vjpkit.control import (
    branch,
    call,
    calls,
    checkpointing,
    dynamic,
    exact,
    external,
    loop,
    policies,
    scan_rules,
    staged_rules,
)

__all__ = [
    "branch",
    "call",
    "calls",
    "checkpointing",
    "dynamic",
    "exact",
    "external",
    "loop",
    "policies",
    "scan_rules",
    "staged_rules",
]
