"""The seed of a first boot as an image: cloud-init can read it, and it is the same whenever it is made."""

import time

import pytest
import yaml

from harness.seeds import files_of
from proxmox_operator.errors import NeedsHuman
from proxmox_operator.guest.seed import checked, empty_image, seed_image

USER_DATA = b"#cloud-config\npackages: [qemu-guest-agent]\n"
META = {"instance-id": "1b2c3d4e-0000-4000-8000-000000000001", "local-hostname": "web"}


def test_the_image_has_the_label_and_the_files_of_nocloud() -> None:
    found = files_of(seed_image(USER_DATA, META, "version: 2\n"))
    assert found["user-data"] == USER_DATA
    assert yaml.safe_load(found["meta-data"]) == META
    assert found["network-config"] == b"version: 2\n"


def test_without_a_network_config_there_is_no_such_file() -> None:
    assert set(files_of(seed_image(USER_DATA, META, None))) == {"user-data", "meta-data"}


def test_the_largest_user_data_comes_back_unharmed() -> None:
    largest = b"#!/bin/sh\n" + bytes(range(256)) * 255
    assert files_of(seed_image(largest, META, None))["user-data"] == largest


def test_the_same_content_makes_the_same_bytes_whenever_it_is_made() -> None:
    first = seed_image(USER_DATA, META, "version: 2\n")
    time.sleep(1.1)  # dates on an ISO are whole seconds
    assert seed_image(USER_DATA, META, "version: 2\n") == first
    assert seed_image(USER_DATA + b"#", META, "version: 2\n") != first


def test_an_empty_seed_is_of_the_same_instance_and_tells_nothing() -> None:
    found = files_of(empty_image(META))
    assert yaml.safe_load(found["meta-data"])["instance-id"] == META["instance-id"]
    assert yaml.safe_load(found["user-data"]) == {}


@pytest.mark.parametrize(
    ("data", "reason"), [(b"packages: []\n", "UserDataInvalid"), (b"#" * 65537, "UserDataTooLarge")]
)
def test_user_data_that_cannot_be_used_is_refused_with_its_field(data: bytes, reason: str) -> None:
    with pytest.raises(NeedsHuman, match=r"spec\.cloudInit\.userDataSecretRef") as caught:
        checked(data, "spec.cloudInit.userDataSecretRef")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "data", [b"#!/bin/sh\n", b"#cloud-config\n", b"\x1f\x8bgzip", b"MIME-Version: 1.0\n"]
)
def test_what_cloud_init_knows_is_taken(data: bytes) -> None:
    assert checked(data, "field") == data
