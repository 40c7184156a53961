"""Headrace: hybrid-cloud AI jobs whose data is where they run."""

__version__ = "0.1.0"
