"""vjpkit turns NumPy programs into their derivatives."""
