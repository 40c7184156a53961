"""What ten thousand pods of others cost the controllers, which must count what they use; and what our work feels of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from bench.clusters.calls import MERGE, Caller, at_once
from bench.clusters.figures import Row, median, ms, percentile
from bench.clusters.sites import ELSEWHERE, PROJECT, Site
from bench.clusters.usage import Cost, Meter
from tests.kubernetes import objects
from tests.kubernetes.roles import apply, path_of, removed

Json = dict[str, Any]
CLIENTS = 8
_PODS = f"/api/v1/namespaces/{ELSEWHERE}/pods"
_DATASETS = f"/apis/data.fluid.io/v1alpha1/namespaces/{PROJECT}/datasets"
_NODE = "bench-storm"
_IDLE_S = 5.0
_LAG_LOOKS = 20


class Lag:
    """Edits a Dataset again and again, and notes how long its controller takes to say that it has seen the edit."""

    def __init__(self, site: Site) -> None:
        self._caller, self._watcher = site.caller(), site.caller()
        self._path = f"{_DATASETS}/lag"
        body = {"apiVersion": "data.fluid.io/v1alpha1", "kind": "Dataset", "metadata": {"name": "lag"}}
        self._caller.call("POST", _DATASETS, {**body, "spec": {"mounts": [{"mountPoint": "s3://b", "name": "b"}]}})
        self._seen, self._generation = threading.Condition(), 0
        threading.Thread(target=self._follow, daemon=True).start()
        self._await(1)

    def look(self) -> float:
        """Return the seconds from an edit's answer to the word of the controller."""
        body = {"spec": {"mounts": [{"mountPoint": f"s3://b{time.monotonic_ns()}", "name": "b"}]}}
        wanted = self._caller.call("PATCH", self._path, body, MERGE)["metadata"]["generation"]
        began = time.perf_counter()
        self._await(wanted)
        return time.perf_counter() - began

    def end(self) -> None:
        self._caller.call("DELETE", self._path)

    def _await(self, generation: int) -> None:
        with self._seen:
            if not self._seen.wait_for(lambda: self._generation >= generation, 60):
                raise SystemExit("The controller has not seen an edit of a Dataset within a minute.")

    def _follow(self) -> None:
        for event in self._watcher.events(f"{_DATASETS}?watch=1&fieldSelector=metadata.name%3Dlag"):
            with self._seen:
                status = event["object"].get("status") or {}
                self._generation = max(self._generation, status.get("observedGeneration") or 0)
                self._seen.notify_all()


def measure(site: Site, count: int) -> Iterator[Row]:
    """Yield the rows for `count` pods, made and then said to run, by eight clients as fast as they can."""
    apply(site.access, objects.node(_NODE, "nobody"))
    lag = Lag(site)
    quiet = [lag.look() for _ in range(_LAG_LOOKS)]
    meter = Meter(site.processes)
    time.sleep(_IDLE_S)
    idle = meter.read()
    for name, cost in idle.items():
        yield Row("storm", f"idle: CPU, {name}", cost.cpu_s / _IDLE_S * 100, "%")
        yield Row("storm", f"idle: memory, {name}", cost.memory_mib, "MiB")
    names = [f"other-{number:05}" for number in range(count)]
    callers = [site.caller() for _ in range(CLIENTS)]
    beside = _Beside(lag)
    storm = Meter(site.processes)
    took = at_once(callers, _make, names)
    took += at_once(callers, _say_running, names)
    during = beside.end()
    costs = _quiet(site, storm)
    what = f"{count} pods of others"
    yield Row("storm", f"{what}: made and said to run, changes", 2 * count / took, "/s")
    for name, cost in costs.items():
        yield Row("storm", f"{what}: CPU a change, {name}", cost.cpu_s / (2 * count) * 1000, "ms")
        yield Row("storm", f"{what}: memory after, {name}", cost.memory_mib, "MiB")
        kept = (cost.memory_mib - idle[name].memory_mib) * 2**20 / count
        yield Row("storm", f"{what}: memory a pod, {name}", kept, "bytes")
    yield Row("storm", "a Dataset's edit to our word of it, before: p50", ms(median(quiet)), "ms")
    yield Row("storm", "a Dataset's edit to our word of it, before: p95", ms(percentile(quiet, 95)), "ms")
    yield Row("storm", "a Dataset's edit to our word of it, meanwhile: p50", ms(median(during)), "ms")
    yield Row("storm", "a Dataset's edit to our word of it, meanwhile: p95", ms(percentile(during, 95)), "ms")
    lag.end()
    at_once(callers, _remove, names)
    removed(site.access, [path_of(objects.node(_NODE, "nobody"))])


class _Beside:
    """Looks at the lag for as long as something else goes on."""

    def __init__(self, lag: Lag) -> None:
        self._lag, self._ended, self._looks = lag, threading.Event(), list[float]()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.2):
            self._looks.append(self._lag.look())

    def end(self) -> list[float]:
        self._ended.set()
        self._thread.join()
        return self._looks


def _quiet(site: Site, meter: Meter) -> dict[str, Cost]:
    """Return the costs once our processes have nothing more to do."""
    costs = meter.read()
    while True:
        time.sleep(1.0)
        now = meter.read()
        if all(now[name].cpu_s - costs[name].cpu_s < 0.1 for name in site.roles):
            return now
        costs = now


def _make(caller: Caller, name: str) -> None:
    caller.call("POST", _PODS, _pod(name))


def _say_running(caller: Caller, name: str) -> None:
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    entries = [
        {"name": entry["name"], "image": "i", "imageID": "i", "ready": True, "restartCount": 0, "state": state}
        for entry in _pod(name)["spec"]["containers"]
    ]
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"phase": "Running", "conditions": [ready], "containerStatuses": entries}
    caller.call("PATCH", f"{_PODS}/{name}/status", {"status": status}, MERGE)


def _remove(caller: Caller, name: str) -> None:
    caller.send("DELETE", f"{_PODS}/{name}?gracePeriodSeconds=0")


def _pod(name: str) -> Json:
    """An ordinary pod of somebody's: two containers with some variables, probes and resources; 4 KB."""
    environment = [
        {"name": f"VARIABLE_{number}", "value": f"a value of some length, number {number}"} for number in range(12)
    ]
    container = {
        "image": "registry.example/somebody/application:1.2.3",
        "args": ["--serve", "--verbose=2", "--configuration=/etc/application/configuration.yaml"],
        "env": environment,
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
    }
    labels = {"app.kubernetes.io/name": "application", "app.kubernetes.io/instance": name}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": ELSEWHERE, "labels": labels},
        "spec": {
            "nodeName": _NODE,
            "terminationGracePeriodSeconds": 0,
            "containers": [{**container, "name": "main"}, {**container, "name": "beside"}],
        },
    }
