"""Certificates of our servers on a cluster: the leader keeps them in two Secrets, every replica serves from one.

`headrace-authority` has the authorities' keys and is read by the controllers alone. `headrace-tls` has what is served,
and whom to trust. Whoever calls our servers (webhook configurations, the aggregated API) is told whom to trust before
anything is served that needs it.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from headrace.admission.certificates import Pair
from headrace.admission.rotation import Held, again_after, rotated
from headrace.clock import Clock
from headrace.cluster.backoff import Backoff
from headrace.cluster.cache import Cache
from headrace.cluster.protocol import Cluster, MergePatch, Scope
from headrace.errors import EngineFailed, HeadraceError, NotFound
from headrace.install.kinds import API_SERVICE, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS
from headrace.install.names import AUTHORITY_SECRET, READS_API_SERVICE, TLS_SECRET, WEBHOOKS
from headrace.spec.kind import Doc, Json, Kind, Ref
from headrace.spec.kinds import SECRET
from headrace.telemetry import logger

ROTATED = "certificates.rotated"
TRUST_TOLD = "certificates.trust_told"
KEEPING_FAILED = "certificates.keeping_failed"
RELOADED = "certificates.reloaded"

_LOOK_EVERY_S = 10.0
"""Somebody may have installed anew, or deleted a Secret."""
_RETRY = Backoff(first_s=1.0, cap_s=_LOOK_EVERY_S)


class CertificateKeeper:
    """Keeps certificates good and trust told. Run it where the lease is held.

    Args:
        namespace: of the Secrets.
        hosts: every name our servers are called by.
    """

    def __init__(self, cluster: Cluster, namespace: str, hosts: Sequence[str], clock: Clock) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._hosts = tuple(hosts)
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled."""
        failures = 0
        while True:
            try:
                pause_s = await self.once()
                failures = 0
            except HeadraceError as error:
                failures += 1
                logger().warning(KEEPING_FAILED, error=str(error))
                pause_s = _RETRY.delay_s(failures)
            await anyio.sleep(pause_s)

    async def once(self) -> float:
        """Look once, and do what is to be done; return when to look again, in seconds."""
        authority, served = await self._get(AUTHORITY_SECRET), await self._get(TLS_SECRET)
        held = _held(_texts(authority), _texts(served))
        wanted = rotated(held, self._hosts, self._clock.now())
        if wanted != held:
            logger().info(ROTATED, following=wanted.following is not None, former=bool(wanted.former))
        # In this order: keys are never lost, and trust is told before it is needed.
        await self._put(AUTHORITY_SECRET, authority, _authority_texts(wanted))
        await self._tell(wanted.bundle)
        await self._put(TLS_SECRET, served, _served_texts(wanted))
        return min(_LOOK_EVERY_S, max(1.0, again_after(wanted, self._clock.now()).total_seconds()))

    async def _get(self, name: str) -> Doc[Any] | None:
        try:
            return await self._cluster.get(SECRET, Ref(self._namespace, name))
        except NotFound:
            return None

    async def _put(self, name: str, found: Doc[Any] | None, texts: Mapping[str, str]) -> None:
        """Make the Secret what it should be; Conflict when somebody else changed it since it was read."""
        if found is not None and _texts(found) == texts:
            return
        data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        if found is None:
            body = {"metadata": {"name": name, "namespace": self._namespace}, "type": "Opaque", "data": data}
            await self._cluster.create(SECRET, body)
            return
        gone = {key: None for key in _texts(found) if key not in texts}
        patch = {"metadata": {"resourceVersion": found.version}, "data": {**gone, **data}}
        await self._cluster.patch(SECRET, found.ref, MergePatch(patch))

    async def _tell(self, bundle: str) -> None:
        encoded = base64.b64encode(bundle.encode()).decode()
        for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            await self._tell_one(kind, WEBHOOKS, lambda raw: _webhooks_patch(raw, encoded))
        await self._tell_one(API_SERVICE, READS_API_SERVICE, lambda raw: _service_patch(raw, encoded))

    async def _tell_one(self, kind: Kind[Any], name: str, patch_of: Callable[[Json], Json | None]) -> None:
        try:
            found = await self._cluster.get(kind, Ref("", name))
        except NotFound:  # not installed, or not yet
            return
        patch = patch_of(found.raw)
        if patch is not None:
            body = {**patch, "metadata": {"resourceVersion": found.version}}
            await self._cluster.patch(kind, found.ref, MergePatch(body))
            logger().info(TRUST_TOLD, kind=kind.name, object=name)


def _webhooks_patch(raw: Json, encoded: str) -> Json | None:
    """Return the patch that has all webhooks trust, None when they do; a merge patch replaces the list whole."""
    hooks = raw.get("webhooks") or []
    if all((hook.get("clientConfig") or {}).get("caBundle") == encoded for hook in hooks):
        return None
    return {"webhooks": [{**hook, "clientConfig": {**hook["clientConfig"], "caBundle": encoded}} for hook in hooks]}


def _service_patch(raw: Json, encoded: str) -> Json | None:
    return None if (raw.get("spec") or {}).get("caBundle") == encoded else {"spec": {"caBundle": encoded}}


def _texts(secret: Doc[Any] | None) -> dict[str, str]:
    """Return a Secret's texts; what cannot be read is left out, and so made anew."""
    found = {}
    for key, value in ((secret.raw.get("data") or {}) if secret is not None else {}).items():
        try:
            found[key] = base64.b64decode(value).decode()
        except ValueError:
            found[key] = ""
    return found


def _held(authority: Mapping[str, str], served: Mapping[str, str]) -> Held:
    return Held(
        current=_pair(authority, "current"),
        following=_pair(authority, "following"),
        former=authority.get("former.crt", ""),
        server=_pair(served, "tls"),
    )


def _pair(texts: Mapping[str, str], name: str) -> Pair | None:
    certificate, key = texts.get(f"{name}.crt"), texts.get(f"{name}.key")
    return Pair(certificate, key) if certificate and key else None


def _authority_texts(held: Held) -> dict[str, str]:
    texts = {"former.crt": held.former} if held.former else {}
    for name, pair in (("current", held.current), ("following", held.following)):
        if pair is not None:
            texts |= {f"{name}.crt": pair.certificate, f"{name}.key": pair.key}
    return texts


def _served_texts(held: Held) -> dict[str, str]:
    assert held.server is not None
    return {"tls.crt": held.server.certificate, "tls.key": held.server.key, "ca.crt": held.bundle}


class ServedCertificate:
    """What a server shows, followed from the Secret; new connections see a new one at once, without a restart."""

    def __init__(
        self, cluster: Cluster, namespace: str, say: Callable[[str], None], contexts: Sequence[ssl.SSLContext]
    ) -> None:
        self._contexts = contexts
        self.authority = ""
        """PEM text of whom clients trust; empty before there is any."""
        self.there = anyio.Event()
        self._say = say
        self._shown = ""
        where = Scope(namespace=namespace, fields=f"metadata.name={TLS_SECRET}")
        self.cache = Cache(cluster, {SECRET: where})
        """Run it, beside the server."""
        self.cache.subscribe(SECRET, self._changed)
        say(f"There is no certificate yet: the controller that leads makes the Secret {namespace}/{TLS_SECRET}.")

    def _changed(self, _old: Doc[Any] | None, new: Doc[Any] | None) -> None:
        texts = _texts(new)
        pair = _pair(texts, "tls")
        if pair is None:  # deleted: what is shown stays good until the next one is there
            return
        self.authority = texts.get("ca.crt", "")
        if pair.certificate != self._shown:
            for context in self._contexts:
                load(context, pair)
            self._shown = pair.certificate
            logger().info(RELOADED)
        self._say("")
        self.there.set()


def load(context: ssl.SSLContext, pair: Pair) -> None:
    """Have a context show a certificate. OpenSSL reads files only, so the key is in one for a moment, ours alone."""
    with tempfile.TemporaryDirectory() as directory:
        certificate, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
        certificate.write_text(pair.certificate)
        key.touch(mode=0o600)
        key.write_text(pair.key)
        try:
            context.load_cert_chain(certificate, key)
        except ssl.SSLError as error:
            raise EngineFailed(
                f"The certificate in Secret {TLS_SECRET} cannot be used: {error.reason}.",
                hint="Delete the Secret; the controller makes another one.",
            ) from error
