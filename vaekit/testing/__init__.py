"""Conformance checks of components, shipped so that whoever writes a likelihood, posterior or objective can run them.

Each check builds float64 copies, draws from a seeded stream that it puts back, and raises an `AssertionError` that says
what was expected and what came. A component that passes works with every other part of vaekit.
"""

from vaekit.testing.components import check_likelihood, check_objective, check_posterior, check_prior

__all__ = ["check_likelihood", "check_objective", "check_posterior", "check_prior"]
