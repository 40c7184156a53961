"""What the processes on a cluster follow of it, and where. Apart, so that webhooks need not import all of a controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.cluster.gate import InNamespaces
from headrace.cluster.spread import EachNamespace
from headrace.spec.kind import Kind
from headrace.spec.kinds import (
    CONFIG_MAP,
    DAEMON_SET,
    DATA_LOAD,
    DATA_PROCESS,
    DATASET,
    HEADRACE_KINDS,
    PERSISTENT_VOLUME_CLAIM,
    PLUGIN_KINDS,
    SECRET,
    THIN_RUNTIME,
    THIN_RUNTIME_PROFILE,
    TRAIN_JOB,
)
from headrace.spec.names import PROJECT_LABEL

KINDS: tuple[Kind[Any], ...] = (
    *(DATASET, THIN_RUNTIME, THIN_RUNTIME_PROFILE, DATA_LOAD, DATA_PROCESS),
    *(*HEADRACE_KINDS, *PLUGIN_KINDS),
)
"""What a cluster must have been taught."""

SCOPES: Mapping[Kind[Any], EachNamespace] = {
    kind: EachNamespace(PROJECT_LABEL) for kind in (SECRET, CONFIG_MAP, DAEMON_SET)
}
"""Nobody reads the Secrets of a whole cluster: only namespaces that are projects are followed."""

WORKED_ON: Mapping[Kind[Any], InNamespaces] = {
    kind: InNamespaces(PROJECT_LABEL)
    for kind in (DATASET, THIN_RUNTIME, DATA_LOAD, DATA_PROCESS, TRAIN_JOB, PERSISTENT_VOLUME_CLAIM)
}
"""What is in other namespaces is nothing to work on: there is no right to. That is said by the policy
`headrace-projects` to whoever writes it."""
