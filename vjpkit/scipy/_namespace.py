"""What a module of `vjpkit.scipy` does not define is SciPy's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

__all__ = ["passing", "scipy_module"]


def scipy_module(name: str) -> Any:
    """The module ``scipy.name``, or an `ImportError` that says how to get it."""
    try:
        import_module("scipy")
    except ImportError:
        raise ModuleNotFoundError(
            f"vjpkit.scipy.{name} needs SciPy: pip install 'vjpkit[scipy]'", name="scipy"
        ) from None
    return import_module(f"scipy.{name}")


def passing(name: str, own: Sequence[str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of the module that stands for ``scipy.name`` and defines
    ``own`` names itself.

    >>> get, names = passing("stats", ["norm"])
    >>> import scipy.stats
    >>> get("iqr") is scipy.stats.iqr, "norm" in names()
    (True, True)
    """
    module = scipy_module(name)
    public = [n for n in dir(module) if not n.startswith("_")]

    def get(attribute: str) -> Any:
        if attribute not in public:
            raise AttributeError(f"module 'vjpkit.scipy.{name}' has no attribute {attribute!r}")
        return getattr(module, attribute)

    return get, lambda: sorted({*own, *public})
