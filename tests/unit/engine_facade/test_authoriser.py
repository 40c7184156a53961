"""Who may do what."""

from __future__ import annotations

import pytest

from headrace.engine.facade.authentication import ANONYMOUS
from headrace.engine.facade.authoriser import GroupAuthoriser
from headrace.engine.pipeline.request import Attributes, User

ADMIN = User("admin", ("system:masters", "system:authenticated"))
NODE = User("system:node:own", ("system:nodes", "system:authenticated"))
ACCOUNT = User(
    "system:serviceaccount:vision:default",
    ("system:serviceaccounts", "system:serviceaccounts:vision", "system:authenticated"),
)
PERSON = User("someone", ("system:authenticated",))


def on(resource: str, verb: str, namespace: str = "", name: str = "", group: str = "") -> Attributes:
    resource, _, subresource = resource.partition("/")
    return Attributes(
        verb=verb, group=group, resource=resource, subresource=subresource, namespace=namespace, name=name
    )


REVIEW = on("selfsubjectaccessreviews", "create", group="authorization.k8s.io")


@pytest.mark.parametrize(
    ("user", "asked"),
    [
        (ADMIN, on("secrets", "delete", "vision", "s")),
        (ADMIN, Attributes(verb="get", path="/anything")),
        (ADMIN, on("users", "impersonate", name="someone")),
        (NODE, on("pods", "watch")),
        (NODE, on("secrets", "get", "vision", "s")),
        (NODE, on("pods/status", "patch", "vision", "p")),
        (NODE, on("pods", "delete", "vision", "p")),
        (NODE, on("nodes", "create")),
        (NODE, on("nodes/status", "patch", name="own")),
        (NODE, on("csinodes", "patch", name="own", group="storage.k8s.io")),
        (NODE, on("leases", "update", "kube-node-lease", "own")),
        (NODE, on("serviceaccounts/token", "create", "vision", "default")),
        (ACCOUNT, on("pods", "list", "vision")),
        (ACCOUNT, on("configmaps", "get", "vision", "c")),
        (ACCOUNT, REVIEW),
        (PERSON, REVIEW),
        (PERSON, Attributes(verb="get", path="/openapi/v3/api/v1")),
        (PERSON, Attributes(verb="get", path="/apis")),
        (ANONYMOUS, Attributes(verb="get", path="/readyz")),
        (ANONYMOUS, Attributes(verb="get", path="/version")),
    ],
)
def test_allowed(user: User, asked: Attributes) -> None:
    assert GroupAuthoriser().refusal(user, asked) == ""


@pytest.mark.parametrize(
    ("user", "asked"),
    [
        (NODE, on("pods", "create", "vision")),
        (NODE, on("pods", "patch", "vision", "p")),
        (NODE, on("nodes/status", "patch", name="cloud")),
        (NODE, on("nodes", "delete", name="cloud")),
        (NODE, on("leases", "update", "vision", "own")),
        (NODE, on("leases", "update", "kube-node-lease", "cloud")),
        (NODE, on("trainjobs", "get", "vision", "j", "headrace.io")),
        (NODE, on("users", "impersonate", name="admin")),
        (ACCOUNT, on("pods", "list")),
        (ACCOUNT, on("pods", "list", "other")),
        (ACCOUNT, on("pods", "create", "vision")),
        (ACCOUNT, on("secrets", "get", "vision", "s")),
        (ACCOUNT, on("nodes", "list")),
        (PERSON, on("pods", "list", "default")),
        (ANONYMOUS, on("pods", "list", "default")),
        (ANONYMOUS, REVIEW),
        (ANONYMOUS, Attributes(verb="get", path="/openapi/v3")),
        (ANONYMOUS, Attributes(verb="get", path="/healthzzz")),
        (ANONYMOUS, Attributes(verb="create", path="/healthz")),
    ],
)
def test_refused_with_a_reason(user: User, asked: Attributes) -> None:
    assert GroupAuthoriser().refusal(user, asked) != ""
