"""A node that a test acts: it binds a pool's pods to itself and says of them what a kubelet would, to the second."""

from __future__ import annotations

import datetime as dt
import threading
from http.client import CONFLICT
from types import TracebackType
from typing import Any

from tests.kubernetes import objects
from tests.kubernetes.access import Access
from tests.kubernetes.roles import MERGE, missing, path_of

from headrace.clock import SystemClock, format_micro_time, format_time
from headrace.spec.kind import Json
from headrace.spec.names import POOL_LABEL

_LOOKS_EVERY_S = 0.1


class ActingNode:
    """A Pool and its one node, for as long as the context lasts.

    Its pods run as soon as they are bound, and all for exactly `ran_s` seconds: until `finish` is called and that they
    succeeded is said, or, when they are deleted, that they failed.
    """

    def __init__(self, access: Access, namespace: str, pool: str, *, ran_s: int, **spec: Any) -> None:
        self._access = access
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._pool = objects.pool(pool, **spec)
        self._node = objects.node(f"{pool}-0", pool)
        self._ran_s = ran_s
        self._finishes = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._act)
        self._failure: BaseException | None = None

    def __enter__(self) -> ActingNode:
        self._access.call("POST", path_of(self._pool).rpartition("/")[0], self._pool)
        self._access.call("POST", "/api/v1/nodes", self._node)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()
        for body in (self._pool, self._node):
            self._access.call("DELETE", path_of(body))
        if error is None and self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Let all pods that run succeed."""
        self._finishes.set()

    def _act(self) -> None:
        try:
            while not self._ends.wait(_LOOKS_EVERY_S):
                self._beat()
                for pod in self._access.call("GET", self._pods)["items"]:
                    if (pod["metadata"].get("labels") or {}).get(POOL_LABEL) == self._pool["metadata"]["name"]:
                        self._look_at(pod)
        except BaseException as error:
            self._failure = error

    def _beat(self) -> None:
        """Renew the lease without which the cluster takes a node for lost."""
        name = self._node["metadata"]["name"]
        lease = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"
        times = {"holderIdentity": name, "leaseDurationSeconds": 40}
        body: Json = {"spec": {**times, "renewTime": format_micro_time(SystemClock().now())}}
        if missing(self._access, lease):
            made = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, **body}
            self._access.call("POST", lease.rpartition("/")[0], made)
        else:
            self._access.call("PATCH", lease, body, MERGE)

    def _look_at(self, pod: Json) -> None:
        path = f"{self._pods}/{pod['metadata']['name']}"
        phase = pod["status"]["phase"]
        if not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": self._node["metadata"]["name"]}
            body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}}
            with self._access.client() as client:
                answer = client.post(f"{path}/binding", json={**body, "target": target})
            # A cluster's scheduler may be quicker: there is one where other tests have a node.
            assert answer.is_success or answer.status_code == CONFLICT, answer.text
        elif phase == "Pending":
            start = format_time(SystemClock().now())
            self._say(path, "Running", {"running": {"startedAt": start}}, startTime=start)
        elif phase == "Running" and pod["metadata"].get("deletionTimestamp"):
            self._say(path, "Failed", self._ended(pod, 143))
            self._access.call("DELETE", f"{path}?gracePeriodSeconds=0")
        elif phase == "Running" and self._finishes.is_set():
            self._say(path, "Succeeded", self._ended(pod, 0))

    def _ended(self, pod: Json, code: int) -> Json:
        start = dt.datetime.fromisoformat(pod["status"]["startTime"])
        end = format_time(start + dt.timedelta(seconds=self._ran_s))
        return {"terminated": {"exitCode": code, "startedAt": format_time(start), "finishedAt": end}}

    def _say(self, path: str, phase: str, state: Json, **more: Any) -> None:
        entry = {"name": "main", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
        body = {"status": {"phase": phase, "containerStatuses": [entry], **more}}
        self._access.call("PATCH", f"{path}/status", body, MERGE)
