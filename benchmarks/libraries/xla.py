"""JAX on the CPU in double precision: jitted as a whole, and op by op.

Inputs are device arrays before the clock starts; a call is over when its result is ready.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy
import jax.scipy.linalg
import numpy

from benchmarks.case import Case, Problem
from benchmarks.libraries.library import Call, Library, module_with

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
jnp = jax.numpy


def _loop(step, carry, xs):
    """A scan: what its gradient runs through."""
    if isinstance(xs, int):
        return jax.lax.scan(lambda c, _: (step(c), None), carry, None, length=xs)[0]
    return jax.lax.scan(lambda c, x: (step(c, x), None), carry, xs)[0]


class JaxEager(Library):
    np = module_with(
        jax.numpy,
        solve_triangular=partial(jax.scipy.linalg.solve_triangular, lower=True),
        integers=lambda x: x.astype(int),
        scatter_add=lambda x, places, n: jnp.zeros(n).at[places].add(x),
        loop=_loop,
    )

    def put(self, x: numpy.ndarray) -> Any:
        return jnp.asarray(x)

    def threads(self) -> str:
        return f"XLA: {jax.local_devices()[0].client.device_count()} device, its default pool"

    def ready(self, function: Any, problem: Problem) -> Call:
        """The call of ``function`` at the problem's inputs; waits for the result."""
        x, data = problem.x, problem.data
        return lambda: jax.block_until_ready(function(x, *data))

    def function(self, problem: Problem) -> Call:
        return self.ready(problem.function, problem)

    def gradient(self, problem: Problem) -> Call:
        return self.ready(jax.grad(problem.function), problem)

    def jacobian(self, problem: Problem) -> Call:
        wide = jax.eval_shape(problem.function, problem.x, *problem.data).size >= problem.x.size
        transform = jax.jacfwd if wide else jax.jacrev
        return self.ready(transform(problem.function), problem)

    def hessian(self, problem: Problem) -> Call:
        return self.ready(jax.hessian(problem.function), problem)

    def laplacian(self, problem: Problem) -> Call:
        hessian = jax.hessian(problem.function)
        return self.ready(lambda x, *data: jnp.trace(hessian(x, *data)), problem)

    def product(self, problem: Problem) -> Call:
        slope = jax.grad(problem.function)

        def push(x, *data):
            return jax.jvp(lambda x: slope(x, *data), (x,), data[-1:])[1]

        return self.ready(push, problem)

    def examples(self, problem: Problem) -> Call:
        over = (None, *[0] * len(problem.data))
        return self.ready(jax.vmap(jax.grad(problem.function), in_axes=over), problem)

    def blocks(self, problem: Problem) -> Call:
        return self.ready(jax.vmap(jax.jacrev(problem.function)), problem)

    def jvp(self, problem: Problem) -> Call:
        direction = self.direction(problem)

        def push(x, *data):
            f = lambda x: problem.function(x, *data)
            return jax.jvp(f, (x,), (direction,))

        return self.ready(push, problem)

    def second(self, problem: Problem) -> Call:
        gradient, direction = jax.grad(problem.function), self.direction(problem)

        def slope(x, *data):
            return jnp.sum(gradient(x, *data) * direction)

        return self.ready(jax.grad(slope), problem)

    def vjp(self, problem: Problem) -> Call:
        f = lambda x: problem.function(x, *problem.data)
        return lambda: jax.block_until_ready(jax.vjp(f, problem.x))

    def pullback(self, problem: Problem) -> Call:
        _, pullback = self.vjp(problem)()
        return lambda: jax.block_until_ready(pullback(1.0))


class JaxJit(JaxEager):
    """Everything under one `jax.jit`; compiled before the clock starts."""

    vjp = None  # type: ignore[assignment]  # under jit there is no separate linearization to time
    pullback = None  # type: ignore[assignment]

    def offers(self, measure: str, case: Case) -> bool:
        if measure == "second" and "unrolled" in case.tags:
            return False  # compiles for minutes
        return super().offers(measure, case)

    def ready(self, function: Any, problem: Problem) -> Call:
        counts = [i + 1 for i, d in enumerate(problem.data) if isinstance(d, int)]
        return super().ready(jax.jit(function, static_argnums=counts), problem)
