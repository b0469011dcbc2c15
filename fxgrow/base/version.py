"""The version of fxgrow."""

__version__ = "0.1.0"
