"""Looking into functions while they run: `print`, for staged code too.

>>> import numpy as np, vjpkit as vk
>>> @vk.jit
... def f(x):
...     vk.debug.print("x is {:.1f}, its sine {s:.3f}", x, s=np.sin(x))
...     return x * x
>>> f(2.0)
x is 2.0, its sine 0.909
4.0
"""

from __future__ import annotations

from vjpkit.core.aval import Value
from vjpkit.core.errors import at, calling_position, counted
from vjpkit.numpy._arguments import named_array
from vjpkit.ops.printing import print_

__all__ = ["print"]


class _Anything:
    """What fits every place of a format."""

    def __format__(self, spec: str) -> str:
        return ""

    def __getattr__(self, name: str) -> _Anything:
        return self

    def __getitem__(self, key: object) -> _Anything:
        return self


def print(fmt: str, /, *args: Value, **kwargs: Value) -> None:
    """Print ``fmt.format(*args, **kwargs)`` when the values are there.

    Arguments are arrays and numbers, traced or not. In a program it is an equation that is kept,
    and prints at each run: under `jit`, in each step of `scan` and `while_loop`, in the branch that
    runs, once per example under `vmap` (in a branch or a step that only some examples take, one of
    these is printed for each other one); under `grad` once, with the value. Text without arguments
    is printed at once.

    >>> import numpy as np, vjpkit as vk
    >>> def step(c, x):
    ...     vk.debug.print("c = {}", c)
    ...     return c + x, None
    >>> _ = vk.jit(lambda xs: vk.lax.scan(step, 0.0, xs)[0])(np.ones(2))
    c = 0.0
    c = 1.0
    >>> _ = vk.vmap(vk.grad(lambda x: (vk.debug.print("{x}", x=x), x * x)[1]))(np.arange(2.0))
    0.0
    1.0
    """
    if not isinstance(fmt, str):
        raise TypeError(
            f"debug.print: the first argument must be a format string, got {type(fmt).__name__}"
            f"{at(calling_position())}\nWrite debug.print('{{}}', x)."
        )
    try:
        fmt.format(*[_Anything()] * len(args), **dict.fromkeys(kwargs, _Anything()))
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(
            f"debug.print: the format {fmt!r} does not fit "
            f"{counted(len(args), 'argument')} and the names "
            f"{sorted(kwargs)}: {error}{at(calling_position())}"
        ) from None
    values = [named_array("debug.print", x, f"argument {i}") for i, x in enumerate(args)]
    values += [named_array("debug.print", x, name) for name, x in kwargs.items()]
    print_(*values, text=fmt, names=tuple(kwargs))
