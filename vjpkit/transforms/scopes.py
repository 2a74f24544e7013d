"""`named_scope`: names for parts of a program, shown beside its equations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ContextDecorator, contextmanager

from vjpkit.core.errors import SCOPE, at, calling_position

__all__ = ["named_scope"]


@contextmanager
def _scope(name: str) -> Iterator[None]:
    outer = SCOPE.get()
    token = SCOPE.set(f"{outer}/{name}" if outer else name)
    try:
        yield
    finally:
        SCOPE.reset(token)


class Scope(ContextDecorator, AbstractContextManager[None]):
    """What `named_scope` returns: a context, or a decorator that enters it at each call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entered: list[AbstractContextManager[None]] = []

    def __enter__(self) -> None:
        scope = _scope(self.name)
        scope.__enter__()
        self.entered.append(scope)

    def __exit__(self, *error: object) -> None:
        self.entered.pop().__exit__(None, None, None)

    def _recreate_cm(self) -> Scope:
        return Scope(self.name)


def named_scope(name: str) -> Scope:
    """A name for a part of a program: ``with named_scope("encoder"):``, or as a decorator.

    It is shown with the user's line beside each equation that is staged inside, in
    ``program.pretty()``, in notebooks and in errors; scopes nest. It changes no result. Equations
    of a derivative, forward or backward, carry the line and the scope of their operation.

    >>> import numpy as np, vjpkit as vk
    >>> def f(x):
    ...     with vk.named_scope("layer"), vk.named_scope("norm"):
    ...         return np.sum(x * x)
    >>> vk.make_ir(f)(np.ones(2)).program.equations[0].source.scope
    'layer/norm'
    """
    if not isinstance(name, str) or not name:
        raise TypeError(
            f"named_scope: name must be a string that is not empty, got {name!r}"
            f"{at(calling_position())}"
        )
    return Scope(name)
