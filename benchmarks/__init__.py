"""How fast gradients are: vjpkit beside hand-written NumPy and its peers, in one run.

``python -m benchmarks`` measures; ``python -m benchmarks --help`` says what can be chosen. A *case*
(`benchmarks.cases`) is a program in several sizes, written against a NumPy-like namespace, with its
hand-written gradient. A *library* (`benchmarks.libraries`) differentiates it. A *probe*
(`benchmarks.probes`) measures what needs a fresh process: imports, first calls, peak memory.

Each library runs in a process of its own (`benchmarks.worker`), because libraries change each
other's malloc and threads. Rounds go round all of them, so that a slow second of the machine hurts
all alike; ratios are taken within a round, medians over the rounds. No gradient is timed before it
has been checked against the others. On a machine that is shared, ``--one-core`` is the steadier
choice: threads that wait for a busy core cost more than what is measured.
"""
