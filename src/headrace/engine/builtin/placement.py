"""Where one pod may run, where it runs best, and, if nowhere, why: worded as kube-scheduler words it. Pure.

Filters, in kube-scheduler's order: unschedulable, node name, taints, node selector and affinity, resources and pod
count, volumes, pod affinity and anti-affinity. Scores: room left, preferred node affinity, soft taints. Not done:
preemption, topology spread, host ports, preferred pod affinity. Source: Kubernetes `pkg/scheduler/framework/plugins`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from headrace.engine.builtin.pod_volumes import PodVolumes, unreachable
from headrace.spec.core.node import Node
from headrace.spec.core.pod import Pod
from headrace.spec.core.scheduling import PodAffinityTerm, Taint
from headrace.spec.kind import Doc
from headrace.spec.names import TAINT_UNSCHEDULABLE
from headrace.spec.resources import Amounts, parse_amounts
from headrace.spec.selectors import matches_selector, matches_term, tolerates, untolerated, wants_node

_MOST_PODS = Decimal(110)
_SCORED = ("cpu", "memory")


class NodeState:
    """One node and what is taken of it; pods placed in this cycle are added as they are placed.

    Args:
        taken: what each of the node's pods requests.
    """

    def __init__(self, node: Doc[Node], taken: Iterable[tuple[Doc[Pod], Amounts]]) -> None:
        self.node = node
        status = node.status.get("allocatable") or node.status.get("capacity")
        self.allocatable = parse_amounts(status)
        self.used: Amounts = {}
        self.pods: list[Doc[Pod]] = []
        for pod, requests in taken:
            self.add(pod, requests)

    def add(self, pod: Doc[Pod], requests: Amounts) -> None:
        """Take what a pod requests."""
        self.pods.append(pod)
        for name, amount in requests.items():
            self.used[name] = self.used.get(name, Decimal(0)) + amount


class Unplaced(msgspec.Struct, frozen=True):
    """No node will have the pod."""

    message: str


def place(pod: Doc[Pod], requests: Amounts, nodes: Sequence[NodeState], volumes: PodVolumes) -> NodeState | Unplaced:
    """Return the best node for a pod that requests so much, or why there is none."""
    prefix = f"0/{len(nodes)} nodes are available"
    if volumes.problem:
        return Unplaced(f"{prefix}: {volumes.problem}.")
    if not nodes:
        return Unplaced("no nodes available to schedule pods")
    affinity = _Affinity(pod, nodes)
    reasons: Counter[str] = Counter()
    fitting: list[NodeState] = []
    for state in nodes:
        found = _refusals(pod, requests, state, volumes, affinity)
        reasons.update(found)
        if not found:
            fitting.append(state)
    if fitting:
        return max(fitting, key=lambda state: _score(pod, requests, state))  # of equals, the first by name
    told = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return Unplaced(f"{prefix}: {told}.")


def _refusals(
    pod: Doc[Pod], requests: Amounts, state: NodeState, volumes: PodVolumes, affinity: _Affinity
) -> list[str]:
    """Why a node will not have a pod; empty when it will. The first filter that refuses speaks."""
    spec, node = pod.view.spec, state.node.view
    unschedulable = Taint(key=TAINT_UNSCHEDULABLE, effect="NoSchedule")
    if node.spec.unschedulable and not any(tolerates(each, unschedulable) for each in spec.tolerations):
        return ["node(s) were unschedulable"]
    if spec.node_name and spec.node_name != state.node.name:
        return ["node(s) didn't match the requested node name"]
    taint = untolerated(node.spec.taints, spec.tolerations)
    if taint is not None:
        return [f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"]
    if not wants_node(spec, node):
        return ["node(s) didn't match Pod's node affinity/selector"]
    lacking = _lacking(requests, state)
    if lacking:
        return lacking
    why = unreachable(volumes, state.node) or affinity.refusal(state)
    return [why] if why else []


def _lacking(requests: Amounts, state: NodeState) -> list[str]:
    found = []
    if len(state.pods) + 1 > state.allocatable.get("pods", _MOST_PODS):
        found.append("Too many pods")
    for name, amount in requests.items():
        free = state.allocatable.get(name, Decimal(0)) - state.used.get(name, Decimal(0))
        if amount > 0 and amount > free:
            found.append(f"Insufficient {name}")
    return found


class _Affinity:
    """Required affinity and anti-affinity between pods, in the topologies that their terms name."""

    def __init__(self, pod: Doc[Pod], nodes: Sequence[NodeState]) -> None:
        self._pod = pod
        self._nodes = nodes
        affinity = pod.view.spec.affinity
        near = affinity.pod_affinity if affinity else None
        apart = affinity.pod_anti_affinity if affinity else None
        self._near = near.required_during_scheduling_ignored_during_execution if near else ()
        self._apart = apart.required_during_scheduling_ignored_during_execution if apart else ()
        self._others = [(state, other, term) for state in nodes for other in state.pods for term in _apart(other)]

    def refusal(self, state: NodeState) -> str:
        """Return why the other pods keep this one off a node; an empty text when they do not."""
        for term in self._near:
            if not self._has_neighbour(term, state, self._pod) and not self._is_first(term, state):
                return "node(s) didn't match pod affinity rules"
        if any(self._has_neighbour(term, state, self._pod) for term in self._apart):
            return "node(s) didn't match pod anti-affinity rules"
        for where, other, term in self._others:
            if _same_topology(term, where, state) and _selects(term, other, self._pod):
                return "node(s) didn't satisfy existing pods anti-affinity rules"
        return ""

    def _has_neighbour(self, term: PodAffinityTerm, state: NodeState, owner: Doc[Pod]) -> bool:
        return any(
            _selects(term, owner, other)
            for where in self._nodes
            if _same_topology(term, where, state)
            for other in where.pods
        )

    def _is_first(self, term: PodAffinityTerm, state: NodeState) -> bool:
        """The first of a group of pods that want to be together may go wherever the topology is known."""
        if term.topology_key not in state.node.labels or not _selects(term, self._pod, self._pod):
            return False
        return not any(_selects(term, self._pod, other) for where in self._nodes for other in where.pods)


def _apart(pod: Doc[Pod]) -> Sequence[PodAffinityTerm]:
    if not (pod.spec.get("affinity") or {}).get("podAntiAffinity"):
        return ()
    affinity = pod.view.spec.affinity
    apart = affinity.pod_anti_affinity if affinity else None
    return apart.required_during_scheduling_ignored_during_execution if apart else ()


def _same_topology(term: PodAffinityTerm, one: NodeState, other: NodeState) -> bool:
    value = one.node.labels.get(term.topology_key)
    return value is not None and other.node.labels.get(term.topology_key) == value


def _selects(term: PodAffinityTerm, owner: Doc[Pod], other: Doc[Pod]) -> bool:
    selector = term.namespace_selector
    everywhere = selector is not None and not selector.match_labels and not selector.match_expressions
    namespaces = term.namespaces or (() if selector is not None else (owner.namespace,))
    return (everywhere or other.namespace in namespaces) and matches_selector(term.label_selector, other.labels)


def _score(pod: Doc[Pod], requests: Amounts, state: NodeState) -> float:
    """kube-scheduler's default weights, each part from 0 to 100."""
    return _room(requests, state) + 2 * _preference(pod, state) + 3 * _soft_taints(pod, state)


def _room(requests: Amounts, state: NodeState) -> float:
    shares = []
    for name in _SCORED:
        whole = state.allocatable.get(name, Decimal(0))
        if whole > 0:
            left = whole - state.used.get(name, Decimal(0)) - requests.get(name, Decimal(0))
            shares.append(float(max(left, Decimal(0)) / whole) * 100)
    return sum(shares) / len(shares) if shares else 0.0


def _preference(pod: Doc[Pod], state: NodeState) -> float:
    affinity = pod.view.spec.affinity
    terms = (
        affinity.node_affinity.preferred_during_scheduling_ignored_during_execution
        if (affinity and affinity.node_affinity)
        else ()
    )
    total = sum(term.weight for term in terms)
    met = sum(term.weight for term in terms if matches_term(term.preference, state.node.view))
    return 100 * met / total if total else 0.0


def _soft_taints(pod: Doc[Pod], state: NodeState) -> float:
    soft = [taint for taint in state.node.view.spec.taints if taint.effect == "PreferNoSchedule"]
    bad = sum(not any(tolerates(each, taint) for each in pod.view.spec.tolerations) for taint in soft)
    return 100 - 100 * bad / len(soft) if soft else 100.0
