"""The version of this program, importable by all."""

__version__ = "0.1.0"
