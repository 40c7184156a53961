"""All objects of an installation, in the order in which they can be made. One source for the command and `deploy/`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from headrace.install.installation import Installation
from headrace.install.kinds import INSTALLED_KINDS
from headrace.install.names import ADMISSION, CONTROLLER, JOINED_NODE_ROLE
from headrace.install.namespaces import namespaces
from headrace.install.network import network_policies
from headrace.install.node_objects import JOINED_NODE_EVERYWHERE
from headrace.install.node_plugin import node_plugin
from headrace.install.policies import policies
from headrace.install.rbac import cluster_role, rbac_objects
from headrace.install.reads import api_service
from headrace.install.services import services
from headrace.install.users import user_roles
from headrace.install.webhooks import through_service, webhook_configurations
from headrace.install.workloads import admission, controller, disruption_budget, ledger_claim
from headrace.spec.crds import crd
from headrace.spec.kind import Json, Kind, Ref
from headrace.spec.kinds import DEFINED_KINDS

LABELS = {"app.kubernetes.io/part-of": "headrace", "app.kubernetes.io/managed-by": "headrace"}
"""On everything that is installed: `kubectl get all,crd -A -l app.kubernetes.io/managed-by=headrace`."""

_KINDS: Mapping[tuple[str, str], Kind[Any]] = {(kind.api_version, kind.name): kind for kind in INSTALLED_KINDS}


def kind_of(body: Json) -> Kind[Any]:
    """Return the kind of an installed object."""
    return _KINDS[body["apiVersion"], body["kind"]]


def ref_of(body: Json) -> Ref:
    """Return how an installed object is called."""
    return Ref(body["metadata"].get("namespace", ""), body["metadata"]["name"])


def parts(installation: Installation) -> dict[str, list[Json]]:
    """Return everything, by concern, in the order of making.

    What closes the cluster without us, webhooks and the aggregated API, comes last.
    """
    home = installation.namespace
    found = {
        "namespaces": namespaces(installation),
        "definitions": [crd(kind) for kind in DEFINED_KINDS],
        "rights": [*rbac_objects(home), cluster_role(JOINED_NODE_ROLE, JOINED_NODE_EVERYWHERE)],
        "users": user_roles(),
        "policies": policies(),
        **(_processes(installation) if installation.workloads else {}),
        "nodes": node_plugin(installation) if installation.nodes else [],
    }
    if installation.workloads:
        found["webhooks"] = [*webhook_configurations(home, through_service(ADMISSION, home)), api_service(home)]
    return {name: [labelled(body) for body in bodies] for name, bodies in found.items() if bodies}


def _processes(installation: Installation) -> dict[str, list[Json]]:
    """Return what runs in the cluster, and what only that needs."""
    home = installation.namespace
    running = [controller(installation), admission(installation), disruption_budget(ADMISSION, home)]
    if installation.replicas > 1:
        running.append(disruption_budget(CONTROLLER, home))
    return {
        "network": [*services(home), *network_policies(installation)],
        "ledger": [] if installation.database_secret else [ledger_claim(installation)],
        "workloads": running,
    }


def objects(installation: Installation) -> list[Json]:
    """Return everything, in the order of making."""
    return [body for bodies in parts(installation).values() for body in bodies]


def labelled(body: Json) -> Json:
    """Return a copy that has the labels of everything that is installed."""
    found = copy.deepcopy(body)
    found["metadata"]["labels"] = {**(found["metadata"].get("labels") or {}), **LABELS}
    return found
