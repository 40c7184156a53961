"""Headrace: hybrid-cloud AI jobs whose data is where they run."""
