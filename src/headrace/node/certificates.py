"""A certificate that the node keeps good: asked for where there is none, renewed when most of its life is over.

As by kubelet (`pkg/kubelet/certificate`, `certificate_manager.go`): renewed after 70 to 90 % of its life, with a new key;
certificate and key are one file, so that they always belong together. Who waits says why.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.certificates import key_pem, load_pair, make_key
from headrace.clock import Clock
from headrace.cluster.backoff import Backoff
from headrace.cluster.protocol import Cluster
from headrace.cluster.signing import Issued, Say, Wanted, obtain
from headrace.errors import Denied, EngineFailed, HeadraceError
from headrace.keyfiles import write_private
from headrace.telemetry import logger

RENEWED = "certificate.renewed"
RENEWAL_FAILED = "certificate.renewal_failed"

_RENEW_BETWEEN = (0.7, 0.9)
_RETRY = Backoff(first_s=2.0, cap_s=300.0)
_LOOK_EVERY_S = 3600.0
"""A machine may sleep, and its clock may be set: nobody sleeps until a moment that is days away."""

_log = logger(component="certificates")


class KeptCertificate:
    """One certificate in one file.

    Args:
        path: PEM: the certificate and what came with it, then the key.
        wanted: what to ask for, whenever it is asked for.
        renewed: awaited after each renewal.
    """

    def __init__(
        self,
        path: Path,
        cluster: Cluster,
        wanted: Wanted,
        clock: Clock,
        *,
        say: Say,
        renewed: Callable[[], Awaitable[None]],
    ) -> None:
        self._path = path
        self._cluster = cluster
        self._wanted = wanted
        self._clock = clock
        self._say = say
        self._renewed = renewed
        self._share = random.uniform(*_RENEW_BETWEEN)  # noqa: S311 - nodes that joined together do not renew together

    async def run(self) -> None:
        """Keep it good until cancelled."""
        failures = 0
        while True:
            left_s = self.due_in_s()
            if left_s > 0:
                await anyio.sleep(min(left_s, _LOOK_EVERY_S))
                continue
            try:
                await self.renew()
                failures = 0
            except HeadraceError as error:
                failures += 1
                self._say(str(error))
                _log.warning(RENEWAL_FAILED, certificate=self._path.name, error=str(error))
                await anyio.sleep(_RETRY.delay_s(failures))

    def due_in_s(self) -> float:
        """Return in how many seconds it wants to be renewed; 0 or less means now, and that it may be missing."""
        found = read(self._path)
        if found is None or not _names(found, self._wanted):
            return 0.0
        begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
        return (begins + self._share * (ends - begins) - self._clock.now()).total_seconds()

    async def renew(self) -> None:
        """Ask for a new one, wait for it, and put it in place."""
        pending = self._path.with_suffix(".key")
        try:
            issued = await obtain(self._cluster, self._wanted, _pending_key(pending), say=self._say)
        except (Denied, EngineFailed):
            pending.unlink(missing_ok=True)  # what was decided about this one stays decided
            raise
        write(self._path, issued)
        pending.unlink(missing_ok=True)
        _log.info(RENEWED, certificate=self._path.name, signer=self._wanted.signer)
        await self._renewed()


def _pending_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the key that a certificate is asked for with: the same after a restart, so that no second request is made."""
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError):
        found = None
    if isinstance(found, ec.EllipticCurvePrivateKey):
        return found
    key = make_key()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, key_pem(key))
    return key


def write(path: Path, issued: Issued) -> None:
    """Put a certificate and its key into one file that only its owner may read, at once."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, issued.certificate.rstrip() + b"\n" + issued.key)


def read(path: Path) -> x509.Certificate | None:
    """Return the certificate in a file; None where there is none that can be used."""
    try:
        content = path.read_bytes()
        return load_pair(content, content).certificate
    except (OSError, ValueError):
        return None


def ended(path: Path, now: dt.datetime) -> bool:
    """Tell whether there is no certificate, or one that is good no more."""
    found = read(path)
    return found is None or found.not_valid_after_utc <= now


def _names(found: x509.Certificate, wanted: Wanted) -> bool:
    """Whether a server's certificate has all the names that are wanted by now."""
    if not wanted.hosts:
        return True
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return {str(each.value) for each in names} >= set(wanted.hosts)
