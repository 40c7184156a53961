"""What our webhooks add to the making of a pod: server-side dry runs, with and without asking them, in turn.

The peer is the same API server in the same run: of each pod there is a twin that it does not ask our webhooks about.
Twins alternate, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

from bench.clusters.calls import Caller, at_once
from bench.clusters.figures import Row, median, ms, percentile
from bench.clusters.sites import CLOUD, NOT_ASKED, PROFILE, PROJECT, Site
from bench.clusters.usage import Meter
from tests.kubernetes import objects
from tests.kubernetes.roles import apply, missing

from headrace.data.wrapper.objects import dataset_ref
from headrace.spec.kind import Ref
from headrace.spec.names import NODE_POOL_LABEL, SERVERLESS_INJECT_LABEL

Json = dict[str, Any]
CLIENTS = 8
_PATH = f"/api/v1/namespaces/{PROJECT}/pods?dryRun=All"
_WARM_UP = 30
_GOALS = {"p50": "≤ 2 ms", "rate": "≥ 500/s"}
_FLUID = {"p50": "6 ms", "rate": "237/s"}


def measure(site: Site, count: int, rounds: int) -> Iterator[Row]:
    """Yield the rows for `count` pods of each shape, once with one client and `rounds` times with eight."""
    _share_a_claim(site)
    shapes = {
        "plain": objects.pod(PROJECT, "pod"),
        "claim, stays native": objects.pod(PROJECT, "pod", "bench"),
        "claim, pool by selector": objects.pod(PROJECT, "pod", "bench", nodeSelector={NODE_POOL_LABEL: CLOUD}),
        "claim, Fluid's label": _labelled(objects.pod(PROJECT, "pod", "bench"), SERVERLESS_INJECT_LABEL),
    }
    for shape, body in shapes.items():
        yield from _one_client(site, shape, body, count)
        yield from _eight_clients(site, shape, body, count, rounds)


def _one_client(site: Site, shape: str, body: Json, count: int) -> Iterator[Row]:
    asked, twin = _encoded(body), _encoded(_labelled(body, NOT_ASKED))
    caller = site.caller()
    for content in [asked, twin] * _WARM_UP:
        _create(caller, content)
    with_us, without = [], []
    for _ in range(count):
        without.append(_create(caller, twin))
        with_us.append(_create(caller, asked))
    caller.close()
    name = f"{shape}, 1 client"
    for percent in (50, 95, 99):
        all_of_it = percentile(with_us, percent)
        if site.is_real:
            added = all_of_it - percentile(without, percent)
            goal, peer = (_GOALS["p50"], _FLUID["p50"]) if percent == 50 else ("", "")
            yield Row("injection", f"{name}: added, p{percent}", ms(added), "ms", goal, peer)
        yield Row("injection", f"{name}: whole, p{percent}", ms(all_of_it), "ms")


def _eight_clients(site: Site, shape: str, body: Json, count: int, rounds: int) -> Iterator[Row]:
    asked, twin = _encoded(body), _encoded(_labelled(body, NOT_ASKED))
    callers = [site.caller() for _ in range(CLIENTS)]
    at_once(callers, _create, itertools.repeat(asked, CLIENTS * _WARM_UP))
    rates: dict[bytes, list[float]] = {asked: [], twin: []}
    latencies: dict[bytes, list[float]] = {asked: [], twin: []}
    spent: list[tuple[str, float]] = []
    for _ in range(rounds):
        for content in (twin, asked) if site.is_real else (asked,):
            meter = Meter(site.processes)

            def work(caller: Caller, content: bytes) -> None:
                latencies[content].append(_create(caller, content))

            took = at_once(callers, work, itertools.repeat(content, count))
            rates[content].append(count / took)
            if content is asked:
                spent += [(name, cost.cpu_s / count) for name, cost in meter.read().items()]
    for caller in callers:
        caller.close()
    name = f"{shape}, {CLIENTS} clients"
    yield Row("injection", f"{name}: pods", median(rates[asked]), "/s", _GOALS["rate"], _FLUID["rate"])
    if site.is_real:
        yield Row("injection", f"{name}: pods, webhooks not asked", median(rates[twin]), "/s")
    for percent in (50, 95, 99):
        yield Row("injection", f"{name}: whole, p{percent}", ms(percentile(latencies[asked], percent)), "ms")
        if site.is_real:
            added = percentile(latencies[asked], percent) - percentile(latencies[twin], percent)
            yield Row("injection", f"{name}: added, p{percent}", ms(added), "ms")
    for process in dict.fromkeys(name for name, _ in spent):
        each = [cpu_s for found, cpu_s in spent if found == process]
        yield Row("injection", f"{name}: CPU a pod, {process}", ms(median(each)), "ms")


def _create(caller: Caller, content: bytes) -> float:
    began = time.perf_counter()
    status, answer = caller.send("POST", _PATH, content)
    took = time.perf_counter() - began
    if status != 201:
        raise SystemExit(f"A pod was answered {status}: {answer.decode(errors='replace')[:2000]}")
    return took


def _share_a_claim(site: Site) -> None:
    apply(site.access, objects.volume(PROJECT, "bench"), objects.claim(PROJECT, "bench", profile=PROFILE))
    path = f"/apis/data.fluid.io/v1alpha1/namespaces/{PROJECT}/datasets/{dataset_ref(Ref(PROJECT, 'bench')).name}"
    site.until(
        lambda: (
            not missing(site.access, path)
            and (site.access.call("GET", path).get("status") or {}).get("phase") == "Bound"
        ),
        "the claim is shared",
    )


def _labelled(body: Json, label: str) -> Json:
    meta = body["metadata"]
    return {**body, "metadata": {**meta, "labels": {**(meta.get("labels") or {}), label: "true"}}}


def _encoded(body: Json) -> bytes:
    return json.dumps(body).encode()
