"""Admission: what happens to an object before it is stored, beyond defaults and validation.

Each admitter has one method, `async admit(request) -> Json | None`, which the embedded engine's pipeline calls in
process; `Review` is what they need of a request, matched by structure.
"""
