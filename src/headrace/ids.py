"""Names and identifiers: uids, generated-name suffixes, deterministic short hashes, DNS labels.

Creates use deterministic names (docs/design.md, section 3), so a reconciler that crashed between "create" and "note
that it was created" finds its own object again instead of making a second one.
"""

from __future__ import annotations

import functools
import hashlib
import re
import secrets
import uuid

# Kubernetes' own alphabet for generated names: no vowels, no look-alikes (apimachinery, util/rand).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_DNS_1123_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_1123_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS_1035_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def new_uid() -> str:
    """Return a random UUID, as `metadata.uid` holds it."""
    return str(uuid.uuid4())


def name_suffix(length: int = 5) -> str:
    """Return the random tail that `metadata.generateName` gets."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def short_hash(*parts: str, length: int = 8) -> str:
    """Return a stable hash of `parts` in Kubernetes' name alphabet; parts are length-prefixed, so none can run over."""
    digest = hashlib.sha256("".join(f"{len(p)}:{p}" for p in parts).encode()).digest()
    number = int.from_bytes(digest[:16], "big")
    letters = []
    for _ in range(length):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def is_dns_label(name: str) -> bool:
    """Tell whether `name` is a DNS-1123 label (most object names that become host names)."""
    return _DNS_1123_LABEL.fullmatch(name) is not None


def is_dns_subdomain(name: str) -> bool:
    """Tell whether `name` is a DNS-1123 subdomain of at most 253 characters (most object names)."""
    return len(name) <= 253 and _DNS_1123_SUBDOMAIN.fullmatch(name) is not None


def is_dns_1035_label(name: str) -> bool:
    """Tell whether `name` is a DNS-1035 label, which must begin with a letter (Services, Fluid's Datasets)."""
    return _DNS_1035_LABEL.fullmatch(name) is not None


@functools.lru_cache(maxsize=4096)
def dns_1035_name(source: str, *salt: str) -> str:
    """Map any object name to a DNS-1035 label of at most 63 characters.

    The name itself is returned where it already is one and no salt is given; otherwise it is cleaned, cut, and a
    short hash of `source` and `salt` is appended, so that different sources never meet in one label.
    """
    if not salt and is_dns_1035_label(source):
        return source
    cleaned = re.sub(r"[^a-z0-9-]+", "-", source.lower()).strip("-")
    if not cleaned or not cleaned[0].isalpha():
        cleaned = f"x{cleaned}" if cleaned else "x"
    return f"{cleaned[:54].rstrip('-')}-{short_hash(source, *salt)}"
