"""The tests, laid out as vjpkit is."""
