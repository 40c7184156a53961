"""Names that are contracts with Fluid, with users and between packages."""

from __future__ import annotations

from headrace.ids import is_dns_subdomain
from headrace.spec import names
from headrace.spec.validation.metadata import check_labels


def test_names_shared_with_fluid() -> None:
    assert names.RUNTIME_PROFILE_LABEL == "fluid.io/runtime-profile"
    assert names.MANAGED_BY_LABEL == "fluid.io/managed-by"
    assert names.DONE_INJECT_LABEL == "done.sidecar.fluid.io/inject"
    assert names.SERVERLESS_INJECT_LABEL == "serverless.fluid.io/inject"
    assert names.FUSE_CONFIG_FILE == "/etc/fluid/config/config.json"
    assert names.FUSE_SECRETS_DIRECTORY == "/etc/fluid/secrets"
    assert names.SIDECAR_PREFIX == "fluid-fuse-"


def test_every_label_and_finalizer_is_one() -> None:
    keys = {
        key: value
        for key, value in vars(names).items()
        if key.endswith(("_LABEL", "_ANNOTATION", "_FINALIZER")) and "/" in str(value)
    }
    assert len(keys) > 20
    assert list(check_labels("", dict.fromkeys(keys.values(), ""))) == []
    assert len(set(keys.values())) == len(keys)


def test_drivers() -> None:
    assert is_dns_subdomain(names.CSI_DRIVER)
    assert names.CSI_DRIVER != names.FLUID_CSI_DRIVER
