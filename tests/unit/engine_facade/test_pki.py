"""The authority is made once, certificates hold until they must not, and nobody else can read the keys."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headrace.clock import FakeClock
from headrace.engine.pki import AUTHORITY_VALID, CERTIFICATE_VALID, RENEW_BEFORE, Authority, Certificate

DAY_S = 86400.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(dt.datetime.now(dt.UTC))


def read(certificate: Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate.certificate.read_bytes())


def test_everything_survives_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    first = Authority.open(tmp_path / "pki", clock)
    before = (first.pem, first.server("facade").key.read_bytes(), first.client("proxy", user="u").key.read_bytes())
    again = Authority.open(tmp_path / "pki", clock)
    assert (
        again.pem,
        again.server("facade").key.read_bytes(),
        again.client("proxy", user="u").key.read_bytes(),
    ) == before


def test_only_the_owner_may_read_keys(tmp_path: Path, clock: FakeClock) -> None:
    authority = Authority.open(tmp_path / "pki", clock)
    authority.server("facade")
    assert (tmp_path / "pki").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "pki").iterdir()} == {0o600}


def test_a_server_certificate_names_its_hosts_and_cannot_act_as_a_client(tmp_path: Path, clock: FakeClock) -> None:
    found = read(Authority.open(tmp_path, clock).server("facade", ("127.0.0.1", "node.example")))
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert names.get_values_for_type(x509.DNSName) == ["node.example"]
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_client_certificate_carries_user_and_groups(tmp_path: Path, clock: FakeClock) -> None:
    found = read(Authority.open(tmp_path, clock).client("proxy", user="headrace:facade", groups=("a", "b")))
    assert [a.value for a in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["headrace:facade"]
    assert [a.value for a in found.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["a", "b"]


def test_a_certificate_is_renewed_before_it_ends_by_the_same_authority(tmp_path: Path, clock: FakeClock) -> None:
    authority = Authority.open(tmp_path, clock)
    first = read(authority.server("facade"))
    clock.advance((CERTIFICATE_VALID - RENEW_BEFORE).total_seconds() - DAY_S)
    assert read(authority.server("facade")) == first
    clock.advance(2 * DAY_S)
    renewed = read(Authority.open(tmp_path, clock).server("facade"))
    assert renewed.not_valid_after_utc > first.not_valid_after_utc
    assert renewed.issuer == first.issuer


def test_a_new_authority_signs_everything_anew(tmp_path: Path, clock: FakeClock) -> None:
    first = Authority.open(tmp_path, clock)
    old = read(first.server("facade"))
    clock.advance(AUTHORITY_VALID.total_seconds() - 300 * DAY_S)
    second = Authority.open(tmp_path, clock)
    assert second.pem != first.pem
    read(second.server("facade")).verify_directly_issued_by(x509.load_pem_x509_certificate(second.pem.encode()))
    assert read(second.server("facade")).issuer != old.issuer


@pytest.mark.parametrize("change", ["hosts", "pair", "torn"])
def test_what_does_not_fit_is_made_anew(tmp_path: Path, clock: FakeClock, change: str) -> None:
    authority = Authority.open(tmp_path, clock)
    old = authority.server("facade")
    before = read(old)
    if change == "pair":
        old.key.write_bytes(authority.server("other").key.read_bytes())
    elif change == "torn":
        old.certificate.write_bytes(old.certificate.read_bytes()[:100])
    new = authority.server(
        "facade", ("127.0.0.1", "another") if change == "hosts" else ("127.0.0.1", "::1", "localhost")
    )
    assert read(new) != before
    ssl.create_default_context().load_cert_chain(new.certificate, new.key)


def test_no_file_is_left_aside(tmp_path: Path, clock: FakeClock) -> None:
    Authority.open(tmp_path, clock).server("facade")
    assert sorted(os.listdir(tmp_path)) == [".lock", "ca.crt", "ca.key", "facade.crt", "facade.key"]
