"""The controllers that a Kubernetes cluster has of its own, reduced to what one machine needs."""
