"""Kubeconfigs and credentials: certificates, tokens that are renewed, plugins, proxies, and what cannot be used."""

from __future__ import annotations

import base64
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
import pytest
import yaml
from anyio.streams.tls import TLSListener

from headrace.clock import SystemClock
from headrace.cluster.remote import RemoteCluster
from headrace.cluster.remote.connection import from_kubeconfig
from headrace.engine.pki import Authority
from headrace.errors import Denied, InvalidSpec, Unavailable, Unsupported
from headrace.spec.kind import Ref
from headrace.spec.kinds import CONFIG_MAP

pytestmark = pytest.mark.anyio

REF = Ref("vision", "a")
OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "vision"}}
UNAUTHORIZED = {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}


def write_kubeconfig(directory: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    content = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "vision"}},
            {"name": "nobody", "context": {"cluster": "c"}},
        ],
        "current-context": "one",
    }
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


async def test_a_token_and_a_namespace(server: Any, tmp_path: Path) -> None:
    server.answers(200, OBJECT)
    path = write_kubeconfig(tmp_path, {"server": server.url}, {"token": "s3cret"})
    async with RemoteCluster.from_kubeconfig(path) as remote:
        await remote.get(CONFIG_MAP, REF)
        assert remote.namespace == "vision"
    assert server.last.headers["authorization"] == "Bearer s3cret"
    async with RemoteCluster.from_kubeconfig(path, context="nobody") as remote:
        await remote.get(CONFIG_MAP, REF)
        assert remote.namespace == "default"
    assert "authorization" not in server.last.headers


async def test_a_refused_token_is_not_sent_twice(server: Any, tmp_path: Path) -> None:
    server.answers(401, UNAUTHORIZED)
    path = write_kubeconfig(tmp_path, {"server": server.url}, {"token": "old"})
    async with RemoteCluster.from_kubeconfig(path) as remote:
        with pytest.raises(Denied, match="Check the credential"):
            await remote.get(CONFIG_MAP, REF)
    assert len(server.seen) == 1


async def test_a_token_file_is_read_again_when_its_token_is_refused(server: Any, tmp_path: Path) -> None:
    async def respond(exchange: Any) -> None:
        if exchange.headers["authorization"] == "Bearer new":
            await exchange.answer(200, OBJECT)
        else:
            await exchange.answer(401, UNAUTHORIZED)

    server.script(respond)
    (tmp_path / "token").write_text("old\n")
    path = write_kubeconfig(tmp_path, {"server": server.url}, {"tokenFile": "token"})
    async with RemoteCluster.from_kubeconfig(path) as remote:
        with pytest.raises(Denied):
            await remote.get(CONFIG_MAP, REF)
        (tmp_path / "token").write_text("new\n")
        await remote.get(CONFIG_MAP, REF)
        count = len(server.seen)
        await remote.get(CONFIG_MAP, REF)
        assert len(server.seen) == count + 1
        (tmp_path / "token").unlink()
        await remote.get(CONFIG_MAP, REF)  # the token that is known still serves


async def test_a_credential_plugin_is_asked_once_and_again_when_refused(server: Any, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"""#!/bin/sh
echo x >> {tmp_path}/runs
echo "$KUBERNETES_EXEC_INFO" > {tmp_path}/info
echo "{{\\"status\\": {{\\"token\\": \\"$PREFIX-$1-$(wc -l < {tmp_path}/runs)\\"}}}}"
"""
    )
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    api_version = "client.authentication.k8s.io/v1"
    command = {
        "apiVersion": api_version,
        "command": str(plugin),
        "args": ["arg"],
        "env": [{"name": "PREFIX", "value": "p"}],
    }
    server.answers(200, OBJECT)
    server.answers(200, OBJECT)
    server.answers(401, UNAUTHORIZED)
    server.answers(200, OBJECT)
    path = write_kubeconfig(tmp_path, {"server": server.url}, {"exec": command})
    async with RemoteCluster.from_kubeconfig(path) as remote:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(remote.get, CONFIG_MAP, REF)
        assert {seen.headers["authorization"] for seen in server.seen} == {"Bearer p-arg-1"}
        await remote.get(CONFIG_MAP, REF)
    assert server.last.headers["authorization"] == "Bearer p-arg-2"
    assert msgspec.json.decode((tmp_path / "info").read_bytes())["apiVersion"] == api_version


async def test_a_credential_plugin_that_fails_is_named(server: Any, tmp_path: Path) -> None:
    for command in ("/no/such/plugin", "true"):
        user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "installHint": "Buy it."}}
        path = write_kubeconfig(tmp_path, {"server": server.url}, user)
        async with RemoteCluster.from_kubeconfig(path) as remote:
            with pytest.raises(Denied, match=f"{command}.*Buy it"):
                await remote.get(CONFIG_MAP, REF)
    assert server.seen == []


@asynccontextmanager
async def serving_tls(server: Any, authority: Authority, *, wants_client: bool = False) -> AsyncIterator[str]:
    certificate = authority.server("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.certificate)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener = TLSListener(plain, context, standard_compatible=False)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.handle)
        yield f"https://127.0.0.1:{plain.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("is_inline", [True, False])
async def test_certificates_inline_and_in_files(server: Any, tmp_path: Path, is_inline: bool) -> None:
    authority = Authority.open(tmp_path / "pki", SystemClock())
    client = authority.client("client", user="me")

    def given(name: str, path: Path) -> dict[str, str]:
        if is_inline:
            return {f"{name}-data": base64.b64encode(path.read_bytes()).decode()}
        return {name: str(path.relative_to(tmp_path))}

    server.answers(200, OBJECT)
    async with serving_tls(server, authority, wants_client=True) as url:
        cluster = {"server": url, **given("certificate-authority", authority.certificate)}
        user = {**given("client-certificate", client.certificate), **given("client-key", client.key)}
        async with RemoteCluster.from_kubeconfig(write_kubeconfig(tmp_path, cluster, user)) as remote:
            assert (await remote.get(CONFIG_MAP, REF)).name == "a"


async def test_a_server_that_nobody_vouches_for_is_refused(server: Any, tmp_path: Path) -> None:
    server.answers(200, OBJECT)
    async with serving_tls(server, Authority.open(tmp_path / "pki", SystemClock())) as url:
        path = write_kubeconfig(tmp_path, {"server": url}, {"token": "s3cret"})
        async with RemoteCluster.from_kubeconfig(path) as remote:
            with pytest.raises(Unavailable, match="certificate"):
                await remote.get(CONFIG_MAP, REF)
        assert server.seen == []
        path = write_kubeconfig(tmp_path, {"server": url, "insecure-skip-tls-verify": True}, {"token": "s3cret"})
        async with RemoteCluster.from_kubeconfig(path) as remote:
            await remote.get(CONFIG_MAP, REF)


async def test_proxies_are_not_used_for_this_machine(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    server.answers(200, OBJECT)
    path = write_kubeconfig(tmp_path, {"server": server.url}, {})
    async with RemoteCluster.from_kubeconfig(path) as remote:
        await remote.get(CONFIG_MAP, REF)


async def test_a_proxy_is_used_for_others_unless_it_is_not_for_them(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    server.answers(200, OBJECT)
    path = write_kubeconfig(tmp_path, {"server": "http://cluster.invalid"}, {})
    async with RemoteCluster.from_kubeconfig(path) as remote:
        await remote.get(CONFIG_MAP, REF)
    assert server.last.head.startswith(b"GET http://cluster.invalid/api/v1/")
    monkeypatch.setenv("NO_PROXY", "cluster.invalid")
    async with RemoteCluster.from_kubeconfig(path) as remote:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await remote.get(CONFIG_MAP, REF)


def test_kubeconfigs_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="cannot be used"):
        from_kubeconfig(tmp_path / "none")
    path = write_kubeconfig(tmp_path, {"server": "https://127.0.0.1:1"}, {"username": "me", "password": "x"})
    with pytest.raises(Unsupported, match="password"):
        from_kubeconfig(path)
    with pytest.raises(InvalidSpec, match="no-such"):
        from_kubeconfig(path, "no-such")
    path.write_text("clusters: [")
    with pytest.raises(InvalidSpec, match="cannot be used"):
        from_kubeconfig(path)


def test_outside_of_a_pod_there_is_no_service_account() -> None:
    with pytest.raises(InvalidSpec, match="no pod"):
        RemoteCluster.in_cluster()
