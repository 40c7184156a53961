"""Whose certificates a node's endpoint takes, while its authority and its own certificate change; handshakes in memory."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from headrace.certificates import KeyPair, make_authority, names_of, sign, subject_of
from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.node.callers import certificate_caller
from headrace.roles.client_authority import ClientAuthority
from headrace.roles.endpoint import EndpointTls
from headrace.spec.kind import Ref
from headrace.spec.kinds import CONFIG_MAP

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Place:
    """Two authorities, and what they have signed, in files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.old, self.new = make_authority("old", NOW, DAY), make_authority("new", NOW, DAY)
        self.server = self.file(
            sign(self.old, subject_of("n"), ExtendedKeyUsageOID.SERVER_AUTH, names_of(["n"]), NOW, DAY)
        )
        self.trusted = ssl.create_default_context(cadata=pem(self.old, self.new))

    def client(self, authority: KeyPair, usage: Any = ExtendedKeyUsageOID.CLIENT_AUTH) -> Path:
        return self.file(sign(authority, subject_of("ann"), usage, None, NOW, DAY))

    def file(self, pair: KeyPair) -> Path:
        path = self._directory / f"{pair.certificate.serial_number}.pem"
        path.write_bytes(pair.certificate_pem + pair.key_pem)
        return path

    def shakes(self, tls: EndpointTls, shown: Path | None = None) -> str:
        """Return whose certificate the server has seen, empty for none; raises SSLError as either side does."""
        context = ssl.create_default_context(cadata=pem(self.old, self.new))
        if shown is not None:
            context.load_cert_chain(shown)
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(to_client, to_server, server_hostname="n")
        server = tls.context.wrap_bio(to_server, to_client, server_side=True)
        waiting: list[ssl.SSLObject] = [client, server]
        for _ in range(6):
            for side in list(waiting):
                try:
                    side.do_handshake()
                    waiting.remove(side)
                except ssl.SSLWantReadError:
                    continue
        assert not waiting
        shown_there = server.getpeercert(binary_form=True)
        found = certificate_caller(shown_there) if shown_there else None
        return found.name if found else ""


def pem(*authorities: KeyPair) -> str:
    return "".join(each.certificate_pem.decode() for each in authorities)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_certificate_is_asked_for_and_not_demanded(place: Place) -> None:
    tls = EndpointTls(pem(place.old))
    tls.show(place.server)
    assert place.shakes(tls) == ""
    assert place.shakes(tls, place.client(place.old)) == "ann"
    with pytest.raises(ssl.SSLError):
        place.shakes(tls, place.client(place.new))
    with pytest.raises(ssl.SSLError):
        place.shakes(tls, place.client(place.old, ExtendedKeyUsageOID.SERVER_AUTH))


def test_an_authority_that_is_gone_is_trusted_no_more(place: Place) -> None:
    tls = EndpointTls(pem(place.old))
    tls.show(place.server)
    ended: list[str] = []
    tls.trust_changed = lambda: ended.append("idle connections")
    tls.trust(pem(place.old, place.new))
    assert place.shakes(tls, place.client(place.old)) == place.shakes(tls, place.client(place.new)) == "ann"
    tls.trust(pem(place.new))
    tls.trust(pem(place.new))
    with pytest.raises(ssl.SSLError):
        place.shakes(tls, place.client(place.old))
    assert place.shakes(tls, place.client(place.new)) == "ann"
    assert ended == ["idle connections"] * 2


def test_what_cannot_be_used_changes_nothing(place: Place, tmp_path: Path) -> None:
    tls = EndpointTls(pem(place.old))
    with pytest.raises(ssl.SSLError):
        place.shakes(tls)  # it has nothing to show yet
    tls.show(place.server)
    with pytest.raises(ssl.SSLError):
        tls.trust("-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n")
    with pytest.raises(FileNotFoundError):
        tls.show(tmp_path / "none")
    assert place.shakes(tls, place.client(place.old)) == "ann"


def test_without_an_authority_nobody_comes_with_a_certificate(place: Place) -> None:
    tls = EndpointTls()
    tls.show(place.server)
    assert place.shakes(tls) == ""
    with pytest.raises(ssl.SSLError):
        place.shakes(tls, place.client(place.old))


@pytest.mark.anyio
async def test_the_authority_is_followed(fake: FakeCluster) -> None:
    told: list[str] = []
    said: list[str] = []

    def trust(authorities: str) -> None:
        if authorities == "bad":
            raise ssl.SSLError("no certificate")
        told.append(authorities)

    meta = {"name": "extension-apiserver-authentication", "namespace": "kube-system"}
    await fake.create(CONFIG_MAP, {"metadata": meta, "data": {"client-ca-file": "one"}})
    await fake.create(CONFIG_MAP, {"metadata": {**meta, "name": "another"}, "data": {"client-ca-file": "another"}})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ClientAuthority(fake, trust, said.append).run)
        for text in ("bad", "two", None):
            await anyio.sleep(1)
            patch = MergePatch({"data": {"client-ca-file": text}})
            await fake.patch(CONFIG_MAP, Ref("kube-system", "extension-apiserver-authentication"), patch)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    assert told == ["one", "two", ""]
    assert said[0] == said[2] == ""
    assert said[1].startswith(
        "client-ca-file of ConfigMap kube-system/extension-apiserver-authentication cannot be used"
    )
    assert "has no client-ca-file: callers need a token" in said[3]
