"""A certificate that the node keeps good: when it is due, and that it is replaced whole."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from headrace.certificates import KeyPair, make_authority, names_of, sign
from headrace.clock import FakeClock
from headrace.cluster.fake import FakeCluster
from headrace.cluster.signing import CERTIFICATE_SIGNING_REQUEST, Issued, kubelet_client, kubelet_serving
from headrace.errors import Denied
from headrace.node import certificates
from headrace.node.certificates import KeptCertificate

DAY = dt.timedelta(days=1)


def issued(clock: FakeClock, *, hosts: tuple[str, ...] = (), lasts: dt.timedelta = 10 * DAY) -> Issued:
    authority: KeyPair = make_authority("ca", clock.now(), 100 * DAY)
    wanted = kubelet_client("vm", lasts_s=60, approver="x")
    names = names_of(hosts) if hosts else None
    pair = sign(authority, wanted.subject, ExtendedKeyUsageOID.CLIENT_AUTH, names, clock.now(), lasts)
    key = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Issued(pair.certificate_pem, key)


def kept(file: Path, clock: FakeClock, *, wanted: Any = None) -> KeptCertificate:
    async def renewed() -> None: ...

    wanted = wanted or kubelet_client("vm", lasts_s=60, approver="x")
    return KeptCertificate(file, FakeCluster(), wanted, clock, say=lambda _: None, renewed=renewed)


def test_one_is_asked_for_where_there_is_none_that_can_be_used(tmp_path: Path) -> None:
    clock, file = FakeClock(), tmp_path / "identity" / "client.pem"
    assert kept(file, clock).due_in_s() == 0
    assert certificates.ended(file, clock.now())
    certificates.write(file, Issued(b"-----BEGIN NONSENSE", b"x"))
    assert kept(file, clock).due_in_s() == 0


def test_it_is_renewed_when_most_of_its_life_is_over_and_before_its_end(tmp_path: Path) -> None:
    clock, file = FakeClock(), tmp_path / "identity" / "client.pem"
    certificates.write(file, issued(clock))
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    due = [kept(file, clock).due_in_s() for _ in range(20)]
    assert all(6.9 * DAY.total_seconds() < each < 9.1 * DAY.total_seconds() for each in due)
    assert len(set(due)) > 1  # nodes that joined together do not all come back together
    assert not certificates.ended(file, clock.now())
    assert certificates.ended(file, clock.now() + 11 * DAY)


@pytest.mark.parametrize(("hosts", "is_due"), [(("vm", "10.0.0.7"), False), (("vm", "10.0.0.8"), True), ((), True)])
def test_a_serving_certificate_names_where_the_node_is_by_now(
    tmp_path: Path, hosts: tuple[str, ...], is_due: bool
) -> None:
    clock, file = FakeClock(), tmp_path / "serving.pem"
    certificates.write(file, issued(clock, hosts=hosts))
    wanted = kubelet_serving("vm", ["10.0.0.7"], lasts_s=60, approver="x")
    assert (kept(file, clock, wanted=wanted).due_in_s() == 0) is is_due


@pytest.mark.anyio
async def test_a_restart_asks_for_the_same_once_more_and_a_denial_ends_that(tmp_path: Path) -> None:
    clock, cluster, file = FakeClock(), FakeCluster(), tmp_path / "identity" / "client.pem"
    wanted = kubelet_client("vm", lasts_s=60, approver="x")

    async def renewed() -> None: ...

    async def ask() -> None:
        with anyio.move_on_after(0.05):
            await KeptCertificate(file, cluster, wanted, clock, say=lambda _: None, renewed=renewed).renew()

    for _ in range(2):  # killed while it waits, and started again
        await ask()
    (request,) = (await cluster.list(CERTIFICATE_SIGNING_REQUEST)).items
    denied = {"conditions": [{"type": "Denied", "status": "True", "message": "No."}]}
    cluster.seed(CERTIFICATE_SIGNING_REQUEST, {**request.raw, "status": denied})
    with pytest.raises(Denied):
        await ask()
    await ask()
    assert len((await cluster.list(CERTIFICATE_SIGNING_REQUEST)).items) == 2
