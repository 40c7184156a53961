"""What our webhooks add to the making of a pod: server-side dry runs, with and without asking them, in turn.

The peers are in the same run: of each pod there is a twin about which the same API server asks nobody, and another about
which it asks the least webhook there can be, which answers with the same patch. Twins alternate, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.clusters.calls import Caller, at_once
from bench.clusters.figures import Row, median, ms, percentile
from bench.clusters.least import LABEL, least, patch_between
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
_ASKED, _NOT_ASKED, _LEAST = "our webhooks asked", "webhooks not asked", "least webhook"
"""Twins of a pod, whose requests alternate."""
_GOALS = {"p50": "≤ 1.5 × least", "rate": "≥ 0.8 × least"}
_FLUID = {"p50": "6 ms", "rate": "237/s"}


def measure(site: Site, count: int, rounds: int, directory: Path) -> Iterator[Row]:
    """Yield the rows for `count` pods of each shape, once with one client and `rounds` times with eight."""
    _share_a_claim(site)
    shapes = {
        "plain": objects.pod(PROJECT, "pod"),
        "claim, stays native": objects.pod(PROJECT, "pod", "bench"),
        "claim, pool by selector": objects.pod(PROJECT, "pod", "bench", nodeSelector={NODE_POOL_LABEL: CLOUD}),
        "claim, Fluid's label": _labelled(objects.pod(PROJECT, "pod", "bench"), {SERVERLESS_INJECT_LABEL: "true"}),
    }
    with ExitStack() as stack:
        names: dict[str, str] = {}
        if site.is_real:
            patches = {f"shape-{number}": _patch(site, body) for number, body in enumerate(shapes.values())}
            if stack.enter_context(least(site.access, PROJECT, patches, directory)):
                names = dict(zip(shapes, patches, strict=True))
        for shape, body in shapes.items():
            twins = {_ASKED: _encoded(body)}
            if site.is_real:
                twins[_NOT_ASKED] = _encoded(_labelled(body, {NOT_ASKED: "true"}))
            if shape in names:
                twins[_LEAST] = _encoded(_labelled(body, {NOT_ASKED: "true", LABEL: names[shape]}))
            yield from _one_client(site, shape, twins, count)
            yield from _eight_clients(site, shape, twins, count, rounds)


def _patch(site: Site, body: Json) -> list[Json]:
    """Return what our webhooks do to a pod."""
    caller = site.caller()
    with_us, without = (caller.call("POST", _PATH, each) for each in (body, _labelled(body, {NOT_ASKED: "true"})))
    caller.close()
    return patch_between(without, _labelled(with_us, {NOT_ASKED: "true"}))


def _one_client(site: Site, shape: str, twins: Mapping[str, bytes], count: int) -> Iterator[Row]:
    caller = site.caller()
    for content in [*twins.values()] * _WARM_UP:
        _create(caller, content)
    took: dict[str, list[float]] = {twin: [] for twin in twins}
    for _ in range(count):
        for twin, content in twins.items():
            took[twin].append(_create(caller, content))
    caller.close()
    name = f"{shape}, 1 client"
    for percent in (50, 95, 99):
        yield from _added(name, took, percent, is_goal=percent == 50)
        yield Row("injection", f"{name}: whole, p{percent}", ms(percentile(took[_ASKED], percent)), "ms")


def _eight_clients(site: Site, shape: str, twins: Mapping[str, bytes], count: int, rounds: int) -> Iterator[Row]:
    callers = [site.caller() for _ in range(CLIENTS)]
    at_once(callers, _create, itertools.repeat(twins[_ASKED], CLIENTS * _WARM_UP))
    rates: dict[str, list[float]] = {twin: [] for twin in twins}
    latencies: dict[str, list[float]] = {twin: [] for twin in twins}
    spent: dict[str, list[tuple[str, float]]] = {twin: [] for twin in twins}
    for _ in range(rounds):
        for twin, content in twins.items():
            meter = Meter(site.processes)

            def work(caller: Caller, content: bytes, took: list[float] = latencies[twin]) -> None:
                took.append(_create(caller, content))

            rates[twin].append(count / at_once(callers, work, itertools.repeat(content, count)))
            spent[twin] += [(name, cost.cpu_s / count) for name, cost in meter.read().items()]
    for caller in callers:
        caller.close()
    name = f"{shape}, {CLIENTS} clients"
    yield Row("injection", f"{name}: pods", median(rates[_ASKED]), "/s", _GOALS["rate"], _FLUID["rate"])
    for twin in [*twins][1:]:
        yield Row("injection", f"{name}: pods, {twin}", median(rates[twin]), "/s")
    for percent in (50, 95, 99):
        yield Row("injection", f"{name}: whole, p{percent}", ms(percentile(latencies[_ASKED], percent)), "ms")
        yield from _added(name, latencies, percent)
    for twin, costs in spent.items():
        told = "" if twin == _ASKED else f" ({twin})"
        for process in dict.fromkeys(process for process, _ in costs):
            each = median([cpu_s for found, cpu_s in costs if found == process])
            if twin == _ASKED or process not in site.roles:
                yield Row("injection", f"{name}: CPU a pod, {process}{told}", ms(each), "ms")


def _added(name: str, took: Mapping[str, list[float]], percent: int, *, is_goal: bool = False) -> Iterator[Row]:
    """Yield what asking us adds to the percentile, and what asking the least webhook does."""
    if _NOT_ASKED not in took:
        return
    without = percentile(took[_NOT_ASKED], percent)
    goal, peer = (_GOALS["p50"], _FLUID["p50"]) if is_goal else ("", "")
    added = percentile(took[_ASKED], percent) - without
    yield Row("injection", f"{name}: added, p{percent}", ms(added), "ms", goal, peer)
    if _LEAST in took:
        added = percentile(took[_LEAST], percent) - without
        yield Row("injection", f"{name}: added by the {_LEAST}, p{percent}", ms(added), "ms")


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


def _labelled(body: Json, labels: Mapping[str, str]) -> Json:
    meta = body["metadata"]
    return {**body, "metadata": {**meta, "labels": {**(meta.get("labels") or {}), **labels}}}


def _encoded(body: Json) -> bytes:
    return json.dumps(body).encode()
