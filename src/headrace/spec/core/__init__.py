"""Typed views of Kubernetes' own kinds: only the fields Headrace uses; all others are ignored on read."""
