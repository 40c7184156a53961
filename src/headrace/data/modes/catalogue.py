"""Which modes there are, and a sentence for each that this version does not have."""

from __future__ import annotations

from headrace.data.modes.broker import Broker
from headrace.data.modes.materialise import Materialise
from headrace.data.modes.mode import Mode
from headrace.errors import InvalidSpec, Unsupported

NATIVE = "native"
BROKER = "broker"
MATERIALISE = "materialise"

_MODES: dict[str, Mode] = {BROKER: Broker(), MATERIALISE: Materialise()}
_NOT_YET = {
    "platform": "mounts inside the sandbox of a virtual node, by a provider's own annotations",
    "privileged": "runs clients as privileged containers, Fluid's classic way",
}


def mode_named(name: str) -> Mode:
    """Return the mode that replaces volumes; `native` replaces nothing and is not one of them.

    Raises:
        Unsupported: this version does not have it.
        InvalidSpec: nobody has it.
    """
    mode = _MODES.get(name)
    if mode is not None:
        return mode
    if name in _NOT_YET:
        raise Unsupported(
            f"Pools with dataAccess.mode {name} are not supported in this version: that mode {_NOT_YET[name]}.",
            hint=f"Use {BROKER} where nodes have the driver fuse.headrace.io, or {MATERIALISE}.",
        )
    known = ", ".join((NATIVE, *_MODES, *_NOT_YET))
    raise InvalidSpec(f"There is no mount mode {name!r}.", hint=f"Set the pool's dataAccess.mode to one of: {known}.")
