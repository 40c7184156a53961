"""A Kubernetes API in memory, for tests: `FakeCluster(clock)`.

Faithful in what reconcilers depend on: one order of versions, conflicts, generations, status apart from the rest,
finalizers and graceful pod deletion, field owners and server-side apply, selectors, paging, watches with history and
410. It does not admit, default or
schedule, collects no garbage (owner references are only kept), needs no namespaces and plays no kubelet.
"""

from headrace.cluster.fake.cluster import FakeCluster

__all__ = ["FakeCluster"]
