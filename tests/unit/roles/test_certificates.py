"""The keeper of certificates: in order, by compare and swap, and nothing where nothing is to be done."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import ssl
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from headrace.admission.certificates import is_signed_by, make_authority
from headrace.admission.rotation import AUTHORITY_LASTS, AUTHORITY_RENEWED, LEARNT
from headrace.clock import FakeClock
from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.errors import Conflict
from headrace.install.kinds import API_SERVICE, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS
from headrace.install.names import AUTHORITY_SECRET, READS_API_SERVICE, TLS_SECRET, WEBHOOKS
from headrace.roles.certificates import CertificateKeeper, ServedCertificate
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import SECRET

pytestmark = pytest.mark.anyio

HOME = "headrace-system"
HOSTS = ("headrace-admission.headrace-system.svc",)


class Bench:
    def __init__(self, fake: FakeCluster) -> None:
        self.fake = fake
        self.clock = FakeClock(dt.datetime.now(dt.UTC).replace(microsecond=0))
        self.keeper = CertificateKeeper(fake, HOME, HOSTS, self.clock)

    async def texts(self, name: str) -> dict[str, str]:
        secret = await self.fake.get(SECRET, Ref(HOME, name))
        return {key: base64.b64decode(value).decode() for key, value in secret.raw["data"].items()}

    async def trusted(self) -> set[str]:
        """Return whom each of those who call us trusts."""
        found = set()
        for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            hooks = (await self.fake.get(kind, Ref("", WEBHOOKS))).raw["webhooks"]
            found |= {hook["clientConfig"]["caBundle"] for hook in hooks}
        service = await self.fake.get(API_SERVICE, Ref("", READS_API_SERVICE))
        return {base64.b64decode(text).decode() for text in {*found, service.raw["spec"]["caBundle"]}}


@pytest.fixture
def bench(fake: FakeCluster) -> Bench:
    return Bench(fake)


def install(fake: FakeCluster) -> None:
    hooks: list[Json] = [{"name": name, "clientConfig": {"url": "https://x"}} for name in ("a", "b")]
    for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        fake.seed(kind, {"metadata": {"name": WEBHOOKS}, "webhooks": hooks})
    fake.seed(API_SERVICE, {"metadata": {"name": READS_API_SERVICE}, "spec": {"group": "g"}})


def writes(fake: FakeCluster) -> list[tuple[str, str, str]]:
    return [(c.verb, c.kind, c.ref.name) for c in fake.calls if c.verb in {"create", "patch"}]


async def test_everything_is_made_and_told_in_order(bench: Bench, fake: FakeCluster) -> None:
    install(fake)
    await bench.keeper.once()
    assert [name for _, _, name in writes(fake)] == [
        AUTHORITY_SECRET,
        WEBHOOKS,
        WEBHOOKS,
        READS_API_SERVICE,
        TLS_SECRET,
    ]
    served, authority = await bench.texts(TLS_SECRET), await bench.texts(AUTHORITY_SECRET)
    assert served.keys() == {"tls.crt", "tls.key", "ca.crt"}
    assert authority.keys() == {"current.crt", "current.key"}
    assert is_signed_by(served["tls.crt"], authority["current.crt"])
    assert await bench.trusted() == {served["ca.crt"]}
    hook = (await fake.get(MUTATING_WEBHOOKS, Ref("", WEBHOOKS))).raw["webhooks"][1]
    assert (hook["name"], hook["clientConfig"]["url"]) == ("b", "https://x")


async def test_looking_again_writes_nothing(bench: Bench, fake: FakeCluster) -> None:
    install(fake)
    await bench.keeper.once()
    before = len(writes(fake))
    await bench.keeper.once()
    assert len(writes(fake)) == before


async def test_what_is_installed_later_is_told_then(bench: Bench, fake: FakeCluster) -> None:
    await bench.keeper.once()
    install(fake)
    await bench.keeper.once()
    assert await bench.trusted() == {(await bench.texts(TLS_SECRET))["ca.crt"]}


async def test_a_successor_is_trusted_before_it_signs(bench: Bench, fake: FakeCluster) -> None:
    install(fake)
    await bench.keeper.once()
    bench.clock.advance((AUTHORITY_LASTS - AUTHORITY_RENEWED).total_seconds() + 1)
    await bench.keeper.once()
    authority, served = await bench.texts(AUTHORITY_SECRET), await bench.texts(TLS_SECRET)
    assert await bench.trusted() == {authority["following.crt"] + authority["current.crt"]}
    assert is_signed_by(served["tls.crt"], authority["current.crt"])

    bench.clock.advance(LEARNT.total_seconds())
    await bench.keeper.once()
    later, served = await bench.texts(AUTHORITY_SECRET), await bench.texts(TLS_SECRET)
    assert later["current.crt"] == authority["following.crt"]
    assert later["former.crt"] == authority["current.crt"]
    assert "following.crt" not in later
    assert is_signed_by(served["tls.crt"], later["current.crt"])


async def test_a_secret_that_somebody_else_changed_is_looked_at_again(bench: Bench, fake: FakeCluster) -> None:
    await bench.keeper.once()
    await fake.patch(SECRET, Ref(HOME, TLS_SECRET), MergePatch({"data": {"tls.crt": "bm9uc2Vuc2U="}}))
    fake.fail_next("patch", Conflict("It changed."))
    with pytest.raises(Conflict):
        await bench.keeper.once()
    await bench.keeper.once()
    assert "BEGIN CERTIFICATE" in (await bench.texts(TLS_SECRET))["tls.crt"]


async def test_the_keeper_goes_on_after_failures(bench: Bench, fake: FakeCluster) -> None:
    fake.fail_next("create", Conflict("No."), times=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.keeper.run)
        await anyio.sleep(60)
        tasks.cancel_scope.cancel()
    assert "tls.crt" in await bench.texts(TLS_SECRET)


async def test_a_server_follows_the_secret(bench: Bench, fake: FakeCluster) -> None:
    said: list[str] = []
    served, context = followed(fake, said.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(served.cache.run)
        await anyio.sleep(1)
        assert "There is no certificate yet" in said[-1]
        await bench.keeper.once()
        await served.there.wait()
        assert said[-1] == ""
        assert handshake(served, context) == (await bench.texts(TLS_SECRET))["tls.crt"]
        await fake.delete(SECRET, Ref(HOME, TLS_SECRET))
        await anyio.sleep(1)
        await bench.keeper.once()
        await anyio.sleep(1)
        assert handshake(served, context) == (await bench.texts(TLS_SECRET))["tls.crt"]
        assert served.authority == (await bench.texts(TLS_SECRET))["ca.crt"]
        tasks.cancel_scope.cancel()


async def test_other_secrets_are_none_of_its_business(fake: FakeCluster) -> None:
    served, _ = followed(fake, lambda _why: None)
    other = make_authority("x", dt.datetime.now(dt.UTC), dt.timedelta(days=1))
    data = {"tls.crt": other.certificate, "tls.key": other.key}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    fake.seed(SECRET, {"metadata": {"name": "other", "namespace": HOME}, "data": encoded})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(served.cache.run)
        await anyio.sleep(5)
        assert not served.there.is_set()
        tasks.cancel_scope.cancel()


def followed(fake: FakeCluster, say: Callable[[str], None]) -> tuple[ServedCertificate, ssl.SSLContext]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return ServedCertificate(fake, HOME, say, [context]), context


def handshake(served: ServedCertificate, context: ssl.SSLContext) -> str:
    """Return what a new connection is shown, in memory."""
    client = ssl.create_default_context(cadata=served.authority)
    client.check_hostname = True
    a, b, c, d = (ssl.MemoryBIO() for _ in range(4))
    server_side: Any = context.wrap_bio(a, b, server_side=True)
    client_side: Any = client.wrap_bio(c, d, server_hostname=HOSTS[0])
    for _ in range(4):
        for side in (client_side, server_side):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            a.write(d.read())
            c.write(b.read())
    return ssl.DER_cert_to_PEM_cert(client_side.getpeercert(binary_form=True))
