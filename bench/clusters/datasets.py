"""How long Datasets and labelled claims take to be Bound, many at once; and what that costs in requests, CPU, memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from bench.clusters import bare
from bench.clusters.calls import MERGE, Caller, at_once
from bench.clusters.figures import Row, median, percentile
from bench.clusters.sites import CLOUD, ELSEWHERE, PROFILE, PROJECT, Site
from bench.clusters.usage import Meter
from tests.kubernetes import objects

from headrace.data.wrapper.objects import dataset_name
from headrace.spec.names import POOLS_ANNOTATION, RUNTIME_PROFILE_LABEL

Json = dict[str, Any]
CLIENTS = 8
_LONGEST_S = 600.0
_SETTLE_S, _IDLE_S = 2.0, 4.0
_FLUID = f"/apis/data.fluid.io/v1alpha1/namespaces/{PROJECT}"
_CLAIMS = f"/api/v1/namespaces/{PROJECT}/persistentvolumeclaims"
_GOAL, _PEER = "≥ 0.9 × bare", "2.4/s (50 in 21 s)"
_REQUESTS = "headrace_api_requests_total"
_WITHOUT_PROBES = {POOLS_ANNOTATION: CLOUD}
"""A pool without nodes: what is measured is the control plane on both sites, not how fast one machine runs 1000 probes."""


class Watched:
    """Notes when objects of a collection are first seen in a state, until all of them were."""

    def __init__(self, caller: Caller, path: str, holds: Any, names: set[str]) -> None:
        self.at: dict[str, float] = {}
        self._holds = holds
        self._missing = set(names)
        self._done = threading.Event()
        since = caller.call("GET", f"{path}?limit=1")["metadata"]["resourceVersion"]
        self._caller = caller
        self._path = f"{path}?watch=1&resourceVersion={since}"
        threading.Thread(target=self._follow, daemon=True).start()

    def wait(self) -> float:
        """Wait for the last one and return when that was."""
        if not self._done.wait(_LONGEST_S):
            raise SystemExit(f"{len(self._missing)} of {self._path} are not so yet, such as {min(self._missing)}.")
        return max(self.at.values())

    def _follow(self) -> None:
        for event in self._caller.events(self._path):
            body, now = event["object"], time.perf_counter()
            name = body["metadata"]["name"]
            if name in self._missing and self._holds(body):
                self.at[name] = now
                self._missing.discard(name)
                if not self._missing:
                    self._done.set()
                    return


def is_bound(body: Json) -> bool:
    return bool((body.get("status") or {}).get("phase") == "Bound")


def pairs(site: Site, count: int) -> Iterator[Row]:
    """Yield the rows for plain Datasets, each with its ThinRuntime, made by eight clients; takes them away again."""
    names = [f"pair-{number:04}" for number in range(count)]
    datasets = Watched(site.caller(), f"{_FLUID}/datasets", is_bound, set(names))
    claims = Watched(site.caller(), _CLAIMS, is_bound, set(names))
    made: dict[str, float] = {}

    def make(caller: Caller, name: str) -> None:
        mount = {"mountPoint": f"s3://bucket/{name}", "name": "b"}
        caller.call("POST", f"{_FLUID}/datasets", _fluid("Dataset", name, {"mounts": [mount]}))
        made[name] = time.perf_counter()
        caller.call("POST", f"{_FLUID}/thinruntimes", _fluid("ThinRuntime", name, {"profileName": PROFILE}))

    with _Expense(site, count) as expense:
        began = time.perf_counter()
        took = at_once([site.caller() for _ in range(CLIENTS)], make, names)
        bound = datasets.wait() - began
    what = f"{count} Datasets with ThinRuntimes"
    waits = [datasets.at[name] - made[name] for name in names]
    yield Row("datasets", f"{what}: made by {CLIENTS} clients", count / took, "/s")
    yield Row("datasets", f"{what}: Bound", count / bound, "/s", _GOAL, _PEER)
    yield Row("datasets", f"{what}: from made to Bound, p50", median(waits), "s")
    yield Row("datasets", f"{what}: from made to Bound, p95", percentile(waits, 95), "s")
    yield Row("datasets", f"{what}: their claims bound by Kubernetes", count / (claims.wait() - began), "/s")
    yield from expense.rows(what)
    _remove(site, [f"{_FLUID}/datasets/{name}" for name in names])
    if site.is_real:
        yield from limit(site, count)


def claims(site: Site, count: int) -> Iterator[Row]:
    """Yield the rows for claims that are bound already and are labelled by eight clients; takes them away again."""
    names = [f"claim-{number:04}" for number in range(count)]
    bound = Watched(site.caller(), _CLAIMS, is_bound, set(names))

    def prepare(caller: Caller, name: str) -> None:
        caller.call("POST", "/api/v1/persistentvolumes", objects.volume(PROJECT, name))
        claim = objects.claim(PROJECT, name)
        claim["metadata"]["annotations"] = _WITHOUT_PROBES
        caller.call("POST", _CLAIMS, claim)

    at_once([site.caller() for _ in range(CLIENTS)], prepare, names)
    bound.wait()
    datasets = Watched(site.caller(), f"{_FLUID}/datasets", is_bound, {dataset_name(name) for name in names})
    labelled: dict[str, float] = {}

    def label(caller: Caller, name: str) -> None:
        body = {"metadata": {"labels": {RUNTIME_PROFILE_LABEL: PROFILE}}}
        caller.call("PATCH", f"{_CLAIMS}/{name}", body, MERGE)
        labelled[name] = time.perf_counter()

    with _Expense(site, count) as expense:
        began = time.perf_counter()
        took = at_once([site.caller() for _ in range(CLIENTS)], label, names)
        last = datasets.wait() - began
    what = f"{count} labelled claims"
    waits = [datasets.at[dataset_name(name)] - labelled[name] for name in names]
    yield Row("claims", f"{what}: labelled by {CLIENTS} clients", count / took, "/s")
    yield Row("claims", f"{what}: Bound", count / last, "/s", "", "")
    yield Row("claims", f"{what}: from label to Bound, p50", median(waits), "s")
    yield Row("claims", f"{what}: from label to Bound, p95", percentile(waits, 95), "s")
    yield from expense.rows(what)
    _remove(site, [f"{_CLAIMS}/{name}" for name in names])
    _remove(site, [f"/api/v1/persistentvolumes/{PROJECT}-{name}" for name in names])


def limit(site: Site, count: int) -> Iterator[Row]:
    """Yield what the same writes take when a client makes them that does nothing else: the rest of the cost is ours.

    They are made elsewhere, where no controller of ours works, and our webhooks are not asked.
    """
    names = [f"bare-{number:04}" for number in range(count)]
    claims = Watched(site.caller(), f"/api/v1/namespaces/{ELSEWHERE}/persistentvolumeclaims", is_bound, set(names))
    with _Expense(site, count) as expense:
        took = at_once([site.caller() for _ in range(CLIENTS)], bare.write, names)
    what = f"{count} Datasets with ThinRuntimes, the same {bare.WRITES} writes by a bare client"
    claims.wait()
    yield Row("datasets", what, count / took, "/s")
    yield from expense.rows(what)
    at_once([site.caller() for _ in range(CLIENTS)], bare.remove, names)


class _Expense:
    """What the processes of a site spend on a number of objects, until nothing more happens."""

    def __init__(self, site: Site, count: int) -> None:
        self._site = site
        self._count = count

    def __enter__(self) -> _Expense:
        self._meter, self._requests = Meter(self._site.processes, idle_s=_IDLE_S), self._asked()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bound = self._asked()

    def rows(self, what: str) -> Iterator[Row]:
        """Wait until all is quiet, and yield what each object has cost."""
        after, before = self._bound, self._requests
        while after != before:
            before = after
            time.sleep(_SETTLE_S)
            after = self._asked()
        costs = self._meter.read()
        for name, cost in costs.items():
            yield Row("cost", f"{what}: CPU each, {name}", cost.cpu_s / self._count * 1000, "ms")
        yield Row("cost", f"{what}: CPU each, all", sum(c.cpu_s for c in costs.values()) / self._count * 1000, "ms")
        for name in self._site.roles:
            yield Row("cost", f"{what}: most memory, {name}", costs[name].peak_mib, "MiB")
        spent = {key: value - self._requests.get(key, 0.0) for key, value in after.items()}
        if not sum(spent.values()):
            return
        yield Row("cost", f"{what}: the controller's requests, each", sum(spent.values()) / self._count, "")
        for key, value in sorted(spent.items(), key=lambda entry: -entry[1]):
            if value >= self._count / 10:
                yield Row("cost", f"{what}:   {key}", value / self._count, "")

    def _asked(self) -> dict[str, float]:
        """Return what the controller has asked for so far, without its lease, which it renews for ever."""
        counts = self._site.metric("controller", _REQUESTS)
        return {labels: count for labels, count in counts.items() if 'resource="leases"' not in labels}


def _fluid(kind: str, name: str, spec: Json) -> Json:
    meta = {"name": name, "namespace": PROJECT, "annotations": _WITHOUT_PROBES}
    return {"apiVersion": "data.fluid.io/v1alpha1", "kind": kind, "metadata": meta, "spec": spec}


def _remove(site: Site, paths: list[str]) -> None:
    """Delete objects and wait until all are gone."""

    def gone(caller: Caller, path: str) -> None:
        end = time.monotonic() + _LONGEST_S
        caller.send("DELETE", path)
        while caller.send("GET", path)[0] != 404:
            if time.monotonic() > end:
                raise SystemExit(f"{path} does not go.")
            time.sleep(0.05)

    at_once([site.caller() for _ in range(2 * CLIENTS)], gone, paths)
