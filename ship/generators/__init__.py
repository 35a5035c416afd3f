"""Generators of synthetic features for classes without pictures, each behind one small contract.

Which there are, `GENERATORS` says (ship.configs.tables): by name the settings, and what builds it.
"""

from ship.configs import GENERATORS
from ship.generators.base import Generator

__all__ = ["GENERATORS", "Generator"]
