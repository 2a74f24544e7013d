"""Every function that NumPy dispatches, called with every keyword, and what is checked of it.

`calls` holds the calls, `checks` what must hold of each, `table` makes the coverage table of what
the calls showed: ``python -m tests.numpy.coverage`` writes ``vjpkit/numpy/COVERAGE.md`` again.
"""
