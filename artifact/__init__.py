"""Build, pack and install single-file releases of Python applications."""

__version__ = "0.1.0"
