"""Headrace's own processes against a real API server, each with the rights that it is installed with and no more."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lightkube.config.kubeconfig import KubeConfig
from tests.interruption import LONGEST_RUN_S
from tests.kubernetes.access import Access
from tests.storage import free_ports

from headrace.install.rbac import project_objects, rbac_objects
from headrace.spec.kind import Json
from headrace.spec.names import PROJECT_LABEL

WITHIN_S = 60.0
_GONE_WITHIN_S = 240.0
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
T = TypeVar("T")
_NAMED_SPACE = re.compile(r'in the namespace \\*"([^"\\]+)')


class Role:
    """One running process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, monitoring: str) -> None:
        self.process = process
        self.log = log
        self._monitoring = monitoring

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and text of `/readyz` or `/metrics`; status 0 while nobody listens."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{self._monitoring}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    @property
    def is_leader(self) -> bool:
        return "headrace_leader 1.0" in self.ask("/metrics")[1]

    def events(self) -> list[Json]:
        """Return what it has logged."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def await_ready(self) -> None:
        until(lambda: self.ask("/readyz")[0] == 200 or self._fail_if_ended(), f"{self.log.name} is ready", self.told)

    def _fail_if_ended(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.told()}"
        return False

    def told(self) -> str:
        return f"{self.ask('/readyz')[1]}\n{self.log.read_text()[-3000:]}"


@contextmanager
def role(
    name: str, directory: Path, *options: str | Path, environment: Mapping[str, str] | None = None
) -> Iterator[Role]:
    """Run `headrace.roles.<name>` for as long as the context lasts; it need not be ready yet."""
    (port,) = free_ports(1)
    monitoring, log = f"127.0.0.1:{port}", directory / f"{name}-{port}.log"
    words = ["timeout", "--kill-after=5", str(LONGEST_RUN_S), sys.executable, "-m", f"headrace.roles.{name}"]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [*words, "--monitoring", monitoring, *(str(option) for option in options)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield Role(process, log, monitoring)
    finally:
        process.terminate()
        process.wait(30)


def controller(directory: Path, kubeconfig: Path, ledger: str, *options: str | Path) -> AbstractContextManager[Role]:
    """Run a controller on ports of its own, unless `options` say others."""
    listen, code = free_ports(2)
    ours = ("--listen", f"127.0.0.1:{listen}", "--code-listen", f"127.0.0.1:{code}", "--host", "127.0.0.1")
    return role("controller", directory, "--kubeconfig", kubeconfig, "--ledger", ledger, *ours, *options)


def check_rights(directory: Path, *spaces: str) -> None:
    """Check that no role which logs in `directory` was refused a right, for the whole cluster or in one of `spaces`.

    Other tests leave objects of our kinds in namespaces of theirs, where nobody has given it any.
    """
    for log in directory.glob("*.log"):
        refused = [line for line in log.read_text().splitlines() if "is forbidden: User" in line]
        ours = [line for line in refused if not (where := _NAMED_SPACE.search(line)) or where[1] in spaces]
        assert not ours, "\n".join(ours[-10:])


def until(
    holds: Callable[[], T], what: str, told: Callable[[], object] = lambda: "", *, within_s: float = WITHIN_S
) -> T:
    """Wait until something is true, and return it."""
    end = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < end, f"after {within_s:g} s it does not hold that {what}: {told()}"
        time.sleep(0.1)
    return found


def path_of(body: Json) -> str:
    """Return the path of an object, whatever its kind."""
    api, meta = body["apiVersion"], body["metadata"]
    singular = body["kind"].lower()
    plural = (
        f"{singular[:-1]}ies"
        if singular.endswith("y")
        else f"{singular}es"
        if singular.endswith("s")
        else f"{singular}s"
    )
    space = f"/namespaces/{meta['namespace']}" if meta.get("namespace") else ""
    return f"/{'apis' if '/' in api else 'api'}/{api}{space}/{plural}/{meta['name']}"


def apply(access: Access, *bodies: Json) -> None:
    """Put objects there by server-side apply."""
    for body in bodies:
        access.call("PATCH", f"{path_of(body)}?fieldManager=tests&force=true", body, APPLY)


def missing(access: Access, path: str) -> bool:
    with access.client() as client:
        return client.get(path).status_code == 404


@contextmanager
def installed(access: Access, home: str) -> Iterator[None]:
    """Give Headrace's accounts their rights, and take them away in the end."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}}
    bodies = [space, *rbac_objects(home)]
    apply(access, *bodies)
    try:
        yield
    finally:
        for body in reversed(bodies):
            access.call("DELETE", path_of(body))
        gone(access, path_of(space))


def project(access: Access, name: str, home: str) -> None:
    """Make a namespace that is a project; it has the label last, so that nobody looks before they may."""
    space: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    labelled = {**space, "metadata": {"name": name, "labels": {PROJECT_LABEL: ""}}}
    apply(access, space, *project_objects(name, home), labelled)
    until(lambda: not missing(access, f"/api/v1/namespaces/{name}/serviceaccounts/default"), "there is an account")


def removed(access: Access, paths: Sequence[str]) -> None:
    """Delete what is there of these, in this order, and wait until it is gone."""
    for path in paths:
        if not missing(access, path):
            access.call("DELETE", path)
    for path in paths:
        gone(access, path)


def gone(access: Access, path: str) -> None:
    """Wait until an object is there no more. A namespace goes when its pods' grace is over, and its controller looks."""
    until(lambda: missing(access, path), f"{path} is gone", lambda: access.call("GET", path), within_s=_GONE_WITHIN_S)


def kubeconfig_of(access: Access, account: str, home: str, directory: Path) -> Path:
    """Write a kubeconfig with a token of a service account."""
    path = f"/api/v1/namespaces/{home}/serviceaccounts/{account}/token"
    body: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    token = access.call("POST", path, body)["status"]["token"]
    written = directory / f"{account}.kubeconfig"
    write_kubeconfig(access, token, account, written)
    return written


def write_kubeconfig(access: Access, token: str, user: str, path: Path, namespace: str = "default") -> None:
    """Write a kubeconfig with any token."""
    config = KubeConfig.from_file(access.kubeconfig).get()
    assert config is not None
    authority = config.cluster.certificate_auth_data
    if not authority:
        file = config.abs_file(str(config.cluster.certificate_auth))
        authority = base64.b64encode(Path(str(file)).read_bytes()).decode()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": access.url, "certificate-authority-data": authority}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": user, "namespace": namespace}}],
        "current-context": "c",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content))
