"""Who is meant: label and field selectors, node affinity, taints and tolerations. Pure.

One place, because the server, the pod scheduler, the pools and the web of controllers must agree on it to the letter.
Sources: apimachinery `pkg/labels`, `pkg/fields`; component-helpers `scheduling/corev1/nodeaffinity`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.errors import InvalidSpec
from headrace.spec.core.meta import LabelSelector
from headrace.spec.core.node import Node
from headrace.spec.core.pod import PodSpec
from headrace.spec.core.scheduling import NodeSelector, NodeSelectorTerm, Taint, Toleration

Labels = Mapping[str, str]


class Requirement(NamedTuple):
    """One demand on a set of labels. Operators: In NotIn Exists DoesNotExist Gt Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Tell whether `labels` meet it. As in Kubernetes, NotIn is met by a label that is not there."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value is not None and value in self.values
            case "NotIn":
                return value is None or value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                return _compares(value, self.operator, self.values)
            case _:
                return False


def _compares(value: str | None, operator: str, bounds: tuple[str, ...]) -> bool:
    try:
        number, bound = int(value or ""), int(bounds[0] if len(bounds) == 1 else "")
    except ValueError:
        return False
    return number > bound if operator == "Gt" else number < bound


_TERM = re.compile(
    r"\s*(?:"
    r"!\s*(?P<absent>[^\s,=!<>()]+)"
    r"|(?P<set>[^\s,=!<>()]+)\s+(?P<set_operator>in|notin)\s*\((?P<values>[^()]*)\)"
    r"|(?P<key>[^\s,=!<>()]+)\s*(?P<operator>==|=|!=|>|<)\s*(?P<value>[^\s,=!<>()]*)"
    r"|(?P<present>[^\s,=!<>()]+)"
    r")\s*(?P<end>,|$)"
)
_OPERATORS = {"=": "In", "==": "In", "!=": "NotIn", ">": "Gt", "<": "Lt", "in": "In", "notin": "NotIn"}


def parse_selector(text: str) -> tuple[Requirement, ...]:
    """Return the demands of a selector as kubectl writes it: `a=b,c!=d,e in (f,g),h,!i,j>3`; empty demands nothing.

    Raises InvalidSpec with the place where it cannot be read.
    """
    demands: list[Requirement] = []
    place = 0
    while place < len(text) and text.strip():
        term = _TERM.match(text, place)
        if term is None or (term["end"] and term.end() == len(text)):
            raise InvalidSpec(
                f"The selector {text!r} cannot be read at {text[place:].strip() or 'its end'!r}.",
                hint="Write it like app=web,tier!=db,zone in (a,b),gpu,!old.",
            )
        demands.append(_requirement(term))
        place = term.end()
    return tuple(demands)


def _requirement(term: re.Match[str]) -> Requirement:
    if term["absent"]:
        return Requirement(term["absent"], "DoesNotExist")
    if term["present"]:
        return Requirement(term["present"], "Exists")
    if term["set"]:
        values = tuple(value.strip() for value in term["values"].split(","))
        return Requirement(term["set"], _OPERATORS[term["set_operator"]], values)
    return Requirement(term["key"], _OPERATORS[term["operator"]], (term["value"],))


def selects(requirements: Iterable[Requirement], labels: Labels) -> bool:
    """Tell whether `labels` meet all demands."""
    return all(requirement.matches(labels) for requirement in requirements)


def matches_labels(wanted: Labels, labels: Labels) -> bool:
    """Tell whether `labels` hold all of `wanted` (nodeSelector, matchLabels, a Service's selector)."""
    return all(labels.get(key) == value for key, value in wanted.items())


def matches_selector(selector: LabelSelector | None, labels: Labels) -> bool:
    """Tell whether a `labelSelector` selects `labels`: an empty one selects everything, None nothing."""
    if selector is None:
        return False
    demands = (Requirement(e.key, e.operator, e.values) for e in selector.match_expressions)
    return matches_labels(selector.match_labels, labels) and selects(demands, labels)


def parse_fields(text: str) -> tuple[Requirement, ...]:
    """Return the demands of a field selector: `metadata.name=x,status.phase!=Running`. Raises InvalidSpec."""
    demands = parse_selector(text)
    if any(demand.operator not in {"In", "NotIn"} or len(demand.values) != 1 for demand in demands):
        raise InvalidSpec(f"The field selector {text!r} cannot be read.", hint="Use only =, == and != in it.")
    return demands


def field_value(raw: Mapping[str, Any], path: str) -> str:
    """Return the field at a dotted path as a field selector sees it: text, and `""` where there is nothing."""
    value: Any = raw
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def selects_fields(requirements: Iterable[Requirement], raw: Mapping[str, Any]) -> bool:
    """Tell whether an object meets all demands of a field selector."""
    return all(demand.matches({demand.key: field_value(raw, demand.key)}) for demand in requirements)


def matches_term(term: NodeSelectorTerm, node: Node) -> bool:
    """Tell whether a node meets a term. A term that demands nothing matches no node."""
    if not term.match_expressions and not term.match_fields:
        return False
    name = {"metadata.name": node.metadata.name}
    return selects(
        (Requirement(e.key, e.operator, e.values) for e in term.match_expressions), node.metadata.labels
    ) and (selects((Requirement(e.key, e.operator, e.values) for e in term.match_fields), name))


def matches_node(selector: NodeSelector, node: Node) -> bool:
    """Tell whether a node meets one of a selector's terms."""
    return any(matches_term(term, node) for term in selector.node_selector_terms)


def wants_node(spec: PodSpec, node: Node) -> bool:
    """Tell whether a pod's nodeSelector and required node affinity allow a node."""
    if not matches_labels(spec.node_selector, node.metadata.labels):
        return False
    affinity = spec.affinity.node_affinity if spec.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    return required is None or matches_node(required, node)


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Tell whether one toleration covers one taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.operator in {"", "Equal"} and toleration.value == taint.value


def untolerated(
    taints: Iterable[Taint],
    tolerations: Sequence[Toleration],
    effects: tuple[str, ...] = ("NoSchedule", "NoExecute"),
) -> Taint | None:
    """Return the first taint with one of `effects` that nothing tolerates; None where a pod may come."""
    for taint in taints:
        if taint.effect in effects and not any(tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None
