"""Typed views of `headrace.io/v1alpha1`: Pool, Queue, TrainJob (docs/design.md, section 2)."""
