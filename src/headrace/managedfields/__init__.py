"""Who owns which field of an object: what server-side apply is made of. Pure; no I/O and no Headrace concept.

- `fieldset`, `elements`: sets of fields, kept as the FieldsV1 trees that are stored
- `types`, `schemas`: what of a kind is owned one by one and what as a whole
- `compare`, `merge`, `naming`, `checking`: objects against such types
- `entries`, `ownership`, `applying`: `metadata.managedFields` through creates, updates, patches and applies

The engine's pipeline and the fake cluster stand on it, which is why it lies below both. Semantics are those of
sigs.k8s.io/structured-merge-diff v6 and apimachinery `pkg/util/managedfields` as of Kubernetes 1.36.
"""
