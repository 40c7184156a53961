"""When certificates are made anew, so that no request ever meets one that its server's clients do not trust yet. Pure.

A server's certificate is simply issued again in time. An authority is replaced in three steps: the next one is trusted
beside the current one; only when everybody has had the time to learn of it does it sign; and the former one is trusted
until all it signed is out of use. What is broken or missing is made anew at once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headrace.admission.certificates import Pair, is_signed_by, is_whole, issue, make_authority, seen

AUTHORITY_LASTS = dt.timedelta(days=730)
AUTHORITY_RENEWED = dt.timedelta(days=180)
"""So long before its end an authority gets its successor."""
SERVER_LASTS = dt.timedelta(days=90)
SERVER_RENEWED = dt.timedelta(days=30)
LEARNT = dt.timedelta(hours=1)
"""So long does a successor only be trusted, and a predecessor still."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """All certificates of an installation. `former` has no key any more: it only vouches."""

    current: Pair | None = None
    following: Pair | None = None
    former: str = ""
    server: Pair | None = None

    @property
    def bundle(self) -> str:
        """Whom clients of our servers trust, newest first."""
        signing = [pair.certificate for pair in (self.following, self.current) if pair is not None]
        return "".join(text if text.endswith("\n") else f"{text}\n" for text in [*signing, self.former] if text)


def rotated(held: Held, hosts: Sequence[str], now: dt.datetime) -> Held:
    """Return what is to be held now; the same value when nothing is to be done. Idempotent at one moment.

    Args:
        hosts: every name and address that our servers are called by.
    """
    current, following, former = held.current, held.following, held.former
    if not is_whole(following) or _is_over(following, now):
        following = None
    if current is None or not is_whole(current) or _is_over(current, now):
        # Nothing that it signed is of use: the successor takes over at once, trusted already or not.
        current, following, former = following or _authority(now), None, ""
    elif following is not None and _age(following, now) >= LEARNT:
        current, following, former = following, None, current.certificate
    elif following is None and _left(current, now) < AUTHORITY_RENEWED:
        following = _authority(now)
    if former and (_is_over(Pair(former, ""), now) or _age(current, now) >= 2 * LEARNT + SERVER_LASTS):
        former = ""
    server = held.server
    if server is None or not _serves(server, current, hosts, now):
        server = issue(current, hosts, now, SERVER_LASTS)
    return replace(held, current=current, following=following, former=former, server=server)


def again_after(held: Held, now: dt.datetime) -> dt.timedelta:
    """Return how long nothing will have to be done."""
    moments = []
    if held.current is not None and (about := seen(held.current.certificate)):
        is_announced = held.following is not None
        moments.append(about.ends if is_announced else about.ends - AUTHORITY_RENEWED)
    if held.following is not None and (about := seen(held.following.certificate)):
        moments.append(about.made + LEARNT)
    if held.server is not None and (about := seen(held.server.certificate)):
        moments.append(about.ends - SERVER_RENEWED)
    return max(dt.timedelta(), min(moments, default=now) - now)


def _serves(server: Pair, authority: Pair, hosts: Sequence[str], now: dt.datetime) -> bool:
    about = seen(server.certificate)
    return (
        about is not None
        and is_whole(server)
        and is_signed_by(server.certificate, authority.certificate)
        and about.hosts == frozenset(hosts)
        and about.ends - now >= min(SERVER_RENEWED, _left(authority, now))
    )


def _authority(now: dt.datetime) -> Pair:
    return make_authority("headrace", now, AUTHORITY_LASTS)


def _left(pair: Pair, now: dt.datetime) -> dt.timedelta:
    about = seen(pair.certificate)
    return about.ends - now if about is not None else dt.timedelta()


def _age(pair: Pair, now: dt.datetime) -> dt.timedelta:
    about = seen(pair.certificate)
    return now - about.made if about is not None else dt.timedelta()


def _is_over(pair: Pair | None, now: dt.datetime) -> bool:
    return pair is None or _left(pair, now) <= dt.timedelta()
