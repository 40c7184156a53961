"""Who a container's processes are: image's USER and runAsUser, looked up in the image's own passwd and group. Pure.

Source: OCI image configuration (`User`: user, uid, user:group, …) and runc's libcontainer/user (GetExecUser): a number
needs no entry, a name does; an entry tells group and home.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.errors import InvalidSpec

_MOST_ID = 2**32 - 2  # the last one means "nobody" to the kernel's interfaces


@dataclass(frozen=True)
class Account:
    """A user and its primary group. `is_named` where the image gave a name."""

    uid: int
    gid: int
    home: str = "/"
    is_named: bool = False


def account(user: str, passwd: str, group: str) -> Account:
    """Return whom `user` (`""`, `name`, `uid`, each with `:group`) means.

    Raises:
        InvalidSpec: a name that the image does not have, or a number that no user can have; it is named.
    """
    who, colon, of = user.strip().partition(":")
    entry = _entry(passwd, who or "0", 7)
    if entry is None:
        found = Account(_number(who or "0", f"USER {user!r}: the image's /etc/passwd has no user {who!r}"), 0)
    else:
        found = Account(int(entry[2]), int(entry[3]), entry[5] or "/", bool(who) and not who.isdigit())
    if not colon or not of:
        return _checked(found, user)
    grouped = _entry(group, of, 4)
    gid = int(grouped[2]) if grouped else _number(of, f"USER {user!r}: the image's /etc/group has no group {of!r}")
    return _checked(Account(found.uid, gid, found.home, found.is_named), user)


def _entry(text: str, who: str, fields: int) -> list[str] | None:
    """Return the line of a name, or that of a number where no name is like it."""
    lines = [line.split(":") for line in text.splitlines() if line and not line.startswith("#")]
    whole = [
        line
        for line in lines
        if len(line) >= fields - 1 and all(part.isdigit() for part in line[2 : 4 if fields == 7 else 3])
    ]
    return next((line for line in whole if line[0] == who), None) or next(
        (line for line in whole if line[2] == who), None
    )


def _number(text: str, why: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidSpec(f"{why}.", hint="Set securityContext.runAsUser and runAsGroup to numbers.")
    return int(text)


def _checked(found: Account, user: str) -> Account:
    for number in (found.uid, found.gid):
        if number > _MOST_ID:
            raise InvalidSpec(
                f"USER {user!r} cannot be had on this node: {number} is no user or group of Linux.",
                hint="Use one below 2^32-1.",
            )
    return found
