"""Mutants: seeded faults of the package, as data, and the tests that must notice each of them."""
