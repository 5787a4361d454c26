"""The built-in heads: a procedural head, its looks and everything on it, in numpy alone."""

from .people import BuiltInPeople

__all__ = ["BuiltInPeople"]
