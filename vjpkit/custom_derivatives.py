"""What rules meet with ``symbolic_zeros=True``, under the name of ``jax.custom_derivatives``.

>>> import numpy as np, vjpkit as vk
>>> from vjpkit.custom_derivatives import SymbolicZero
>>> f = vk.custom_vjp(lambda x, y: (x * y, y))
>>> def fwd(x, y):
...     return (x.value * y.value, y.value), (x.value, y.value)
>>> def bwd(kept, cts):
...     ct, zero = cts
...     assert isinstance(zero, SymbolicZero)
...     return ct * kept[1], ct * kept[0]
>>> f.defvjp(fwd, bwd, symbolic_zeros=True)
>>> vk.grad(lambda x: f(x, 3.0)[0])(2.0)
np.float64(3.0)
"""

from vjpkit.control.custom_arguments import CustomVJPPrimal, SymbolicZero

__all__ = ["CustomVJPPrimal", "SymbolicZero"]
