"""Certificates through the years: never a moment at which a server shows what its clients do not trust."""

from __future__ import annotations

import datetime as dt

import pytest

from headrace.admission.certificates import Pair, is_signed_by, is_whole, issue, make_authority, seen
from headrace.admission.rotation import (
    AUTHORITY_LASTS,
    AUTHORITY_RENEWED,
    LEARNT,
    SERVER_LASTS,
    SERVER_RENEWED,
    Held,
    again_after,
    rotated,
)

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOSTS = ("headrace-admission.headrace-system.svc", "127.0.0.1")
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


@pytest.fixture(scope="module")
def fresh() -> Held:
    return rotated(Held(), HOSTS, NOW)


def ends(pair: Pair | None) -> dt.datetime:
    assert pair is not None
    about = seen(pair.certificate)
    assert about is not None
    return about.ends


def test_of_nothing_everything_is_made(fresh: Held) -> None:
    assert is_whole(fresh.current)
    assert is_whole(fresh.server)
    assert fresh.current is not None
    assert fresh.server is not None
    assert is_signed_by(fresh.server.certificate, fresh.current.certificate)
    about = seen(fresh.server.certificate)
    assert about is not None
    assert about.hosts == {*HOSTS}
    assert (about.made, about.ends) == (NOW, NOW + SERVER_LASTS)
    assert (fresh.following, fresh.former) == (None, "")
    assert fresh.bundle == fresh.current.certificate


@pytest.mark.parametrize("after", [dt.timedelta(), HOUR, SERVER_LASTS - SERVER_RENEWED])
def test_what_is_good_stays(fresh: Held, after: dt.timedelta) -> None:
    assert rotated(fresh, HOSTS, NOW + after) == fresh


def test_a_server_is_renewed_in_time_by_the_same_authority(fresh: Held) -> None:
    later = rotated(fresh, HOSTS, NOW + SERVER_LASTS - SERVER_RENEWED + HOUR)
    assert later.current == fresh.current
    assert later.server != fresh.server
    assert ends(later.server) == NOW + 2 * SERVER_LASTS - SERVER_RENEWED + HOUR


@pytest.mark.parametrize("hosts", [(*HOSTS, "more.svc"), HOSTS[:1]])
def test_other_names_need_another_certificate(fresh: Held, hosts: tuple[str, ...]) -> None:
    later = rotated(fresh, hosts, NOW)
    about = seen(later.server.certificate) if later.server else None
    assert about is not None
    assert about.hosts == {*hosts}
    assert later.current == fresh.current


def test_an_authority_is_followed_by_one_that_signs_only_when_it_is_known(fresh: Held) -> None:
    soon = NOW + AUTHORITY_LASTS - AUTHORITY_RENEWED + HOUR
    announced = rotated(fresh, HOSTS, soon)
    assert announced.current == fresh.current
    assert announced.following is not None
    assert announced.bundle == announced.following.certificate + (fresh.current or Pair("", "")).certificate

    waiting = rotated(announced, HOSTS, soon + LEARNT - dt.timedelta(seconds=1))
    assert (waiting.current, waiting.following) == (fresh.current, announced.following)

    promoted = rotated(announced, HOSTS, soon + LEARNT)
    assert promoted.current == announced.following
    assert promoted.following is None
    assert promoted.former == (fresh.current or Pair("", "")).certificate
    assert promoted.server is not None
    assert is_signed_by(promoted.server.certificate, (promoted.current or Pair("", "")).certificate)
    assert promoted.bundle == (promoted.current or Pair("", "")).certificate + promoted.former


BROKEN = Pair("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "nonsense")


@pytest.mark.parametrize("part", ["current", "server", "following"])
def test_what_is_broken_is_made_anew(fresh: Held, part: str) -> None:
    broken = {"current": fresh.current, "server": fresh.server, "following": fresh.following, part: BROKEN}
    held = Held(current=broken["current"], server=broken["server"], following=broken["following"])
    mended = rotated(held, HOSTS, NOW)
    assert is_whole(mended.current)
    assert is_whole(mended.server)
    assert mended.following is None
    if part != "current":
        assert mended.current == fresh.current


def test_a_key_of_another_certificate_is_broken(fresh: Held) -> None:
    assert fresh.server is not None
    other = issue(make_authority("x", NOW, DAY), HOSTS, NOW, DAY)
    assert not is_whole(Pair(fresh.server.certificate, other.key))


def test_an_installation_that_slept_for_years_begins_anew(fresh: Held) -> None:
    late = rotated(fresh, HOSTS, NOW + 2 * AUTHORITY_LASTS)
    assert late.current != fresh.current
    assert late.former == ""
    assert is_whole(late.server)


def test_for_ten_years_every_server_is_trusted_by_what_was_told_before() -> None:
    """Looked at whenever it says; clients know the bundle of an hour ago at least, and servers the pair of an hour ago."""
    now, held = NOW, rotated(Held(), HOSTS, NOW)
    changes = 0
    while now < NOW + dt.timedelta(days=3650):
        step = max(again_after(held, now), dt.timedelta(minutes=1))
        now += step
        told = held.bundle
        following = rotated(held, HOSTS, now)
        for server in (held.server, following.server):  # one replica has reloaded, another one has not
            assert server is not None
            assert ends(server) > now
            if step >= LEARNT or following.current != held.current or following == held:
                trusted = [
                    f"{text}-----END CERTIFICATE-----\n" for text in told.split("-----END CERTIFICATE-----\n")[:-1]
                ]
                assert any(is_signed_by(server.certificate, text) for text in trusted)
        changes += following != held
        held = following
    assert changes > 40


def test_it_says_when_to_look_again(fresh: Held) -> None:
    assert again_after(fresh, NOW) == SERVER_LASTS - SERVER_RENEWED
    assert again_after(Held(), NOW) == dt.timedelta()
    assert again_after(fresh, NOW + SERVER_LASTS - SERVER_RENEWED - HOUR) == HOUR
    assert again_after(fresh, NOW + SERVER_LASTS) == dt.timedelta()
