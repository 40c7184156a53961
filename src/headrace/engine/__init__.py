"""A small Kubernetes API server: store, pipeline, façade and the controllers that every cluster has.

It holds no Headrace concept. Enough of Kubernetes that controllers, `kubectl` and ordinary clients cannot tell for the
kinds it serves, and a clear 501 or 404 for the rest. Only `roles`, `cli` and `sdk` may import it.
"""
