"""A Kubernetes API over HTTPS: `RemoteCluster`.

One kept HTTP client a cluster; every wait has a deadline; every failure is one of `headrace.errors`. It never tries a
call again by itself, but for a refused credential that may have been renewed: when to try again is known above.
"""

from headrace.cluster.remote.cluster import RemoteCluster

__all__ = ["RemoteCluster"]
