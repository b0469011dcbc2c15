"""The version of fxgrow: the only place that says it, where pyproject.toml reads it."""

__version__ = "0.1.0"
