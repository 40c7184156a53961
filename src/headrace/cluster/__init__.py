"""Talking to *a* Kubernetes API: protocol, remote client, cache, work queue, controller, lease, events, a fake.

The vocabulary is controller-runtime's. Nothing here knows which server answers: the embedded engine in process, its
façade over HTTPS, or a real kube-apiserver.
"""
