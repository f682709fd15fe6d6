"""What makes another version of a VMTemplate, and how files, copies and marks are called."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_operator.api import Image
from proxmox_operator.planning.templates import (
    image_file,
    marked_name,
    marked_version,
    proxmox_name,
    version_of,
)
from unit.planning.making_templates import IMAGE, SHA, STORAGE, a_spec

OTHER = f"sha256:{'0' * 64}"


def version(storage=STORAGE, **spec):
    return version_of(a_spec(**spec), storage=storage)


@pytest.mark.parametrize(
    ("spec", "digest"),
    [
        ({}, "537c75dfc0"),
        ({"fromVM": {"vmid": 500}}, "1b287720e4"),
        (
            {
                "hardware": {
                    "cpu": {"cores": 4, "type": "host"},
                    "memory": {"size": "4Gi", "minimum": "2Gi"},
                    "machine": "pc",
                    "firmware": {"uefi": True, "secureBoot": True, "tpm": True},
                    "osType": "Windows11",
                    "scsiController": "LSI",
                    "agent": False,
                    "serialConsole": False,
                    "cloudInitDrive": False,
                },
                "revision": "b",
            },
            "71eb13dc96",
        ),
    ],
    ids=["an image", "a VM", "all hardware"],
)
def test_a_version_is_the_same_for_ever(spec, digest):
    """An upgrade of the operator that changes one of these makes everybody's templates anew: that must be meant."""
    assert version(**spec) == digest


@pytest.mark.parametrize(
    "change",
    [
        {"image": IMAGE | {"checksum": OTHER}},
        {"image": {"volume": "nas:import/debian-12.qcow2"}},
        {"fromVM": {"vmid": 500}},
        {"storage": "ceph"},
        {"revision": "b"},
        {"hardware": {"cpu": {"cores": 2}}},
        {"hardware": {"cpu": {"type": "host"}}},
        {"hardware": {"memory": {"size": "2Gi"}}},
        {"hardware": {"machine": "pc"}},
        {"hardware": {"firmware": {"uefi": True}}},
        {"hardware": {"osType": "Other"}},
        {"hardware": {"scsiController": "LSI"}},
        {"hardware": {"agent": False}},
        {"hardware": {"serialConsole": False}},
        {"hardware": {"cloudInitDrive": False}},
    ],
    ids=str,
)
def test_what_shapes_the_result_makes_another_version(change):
    assert version(**{"storage": STORAGE, **change}) != version()


def test_another_volume_or_another_vm_is_another_version():
    first, second = (version(image={"volume": f"nas:import/{name}.qcow2"}) for name in "ab")
    third, fourth = (version(fromVM={"vmid": vmid}) for vmid in (500, 501))
    assert len({first, second, third, fourth}) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"image": IMAGE | {"url": "http://mirror.example.org/other-name.img"}},
        {"image": IMAGE | {"storage": "nas"}},
        {"image": IMAGE | {"via": "Operator"}},
        {"distribution": "OnDemand"},
        {"nodes": ["pve1"]},
        {"keepVersions": 0},
        {"tags": ["golden"]},
        {"deletionPolicy": "Retain"},
        {"clusterRef": {"name": "lab"}},
        {"hardware": {}},
        {"hardware": {"cpu": {"type": "x86-64-v2-AES"}, "memory": {"size": "1Gi"}, "agent": True}},
    ],
    ids=str,
)
def test_what_does_not_shape_the_result_makes_none(change):
    assert version(**change) == version()


@pytest.mark.parametrize("storage", ["ceph", ""])
def test_another_default_storage_of_the_cluster_is_another_version(storage):
    assert version(storage=storage) != version()


# Image files


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://x.org/debian-12.qcow2", "debian-12-a1b2c3d4e5f60718.qcow2"),
        (
            "https://x.org/noble/noble-server-cloudimg-amd64.img",
            "noble-server-cloudimg-amd64-a1b2c3d4e5f60718.qcow2",
        ),
        ("https://x.org/disk.raw", "disk-a1b2c3d4e5f60718.raw"),
        ("https://x.org/disk.vmdk", "disk-a1b2c3d4e5f60718.vmdk"),
        ("https://x.org/a%20b(1)~c,d.qcow2", "a-20b-1--c-d-a1b2c3d4e5f60718.qcow2"),
        ("https://x.org/.qcow2", "qcow2-a1b2c3d4e5f60718.qcow2"),
        ("https://x.org/...hidden.qcow2", "hidden-a1b2c3d4e5f60718.qcow2"),
        (f"https://x.org/{'long' * 50}.qcow2", f"{'long' * 20}-a1b2c3d4e5f60718.qcow2"),
    ],
)
def test_an_image_file_is_called_after_its_url_and_its_checksum(url, name):
    file = image_file(Image.model_validate(IMAGE | {"url": url}))
    assert (file.name, file.volume) == (name, f"images:import/{name}")
    assert (file.url, file.algorithm, file.digest) == (url, "sha256", SHA)


@pytest.mark.parametrize(
    "url",
    [
        "https://x.org",
        "https://x.org/",
        "https://x.org/latest",
        "https://x.org/a.b/download.cgi",
        "http://[::1]:80/",
    ],
)
@pytest.mark.parametrize("extension", ["qcow2", "raw", "vmdk"])
def test_an_odd_url_has_the_extension_of_the_format(url, extension):
    file = image_file(Image.model_validate(IMAGE | {"url": url, "format": extension}))
    assert re.fullmatch(rf"[A-Za-z0-9+=_][A-Za-z0-9.+=_-]*-a1b2c3d4e5f60718\.{extension}", file.name)


def test_the_format_of_the_spec_goes_before_that_of_the_url():
    file = image_file(Image.model_validate(IMAGE | {"url": "https://x.org/disk.img", "format": "raw"}))
    assert file.name == "disk-a1b2c3d4e5f60718.raw"


def test_other_contents_are_other_files():
    images = (IMAGE, IMAGE | {"checksum": OTHER}, IMAGE | {"checksum": f"sha512:{'1' * 128}"})
    files = [image_file(Image.model_validate(image)) for image in images]
    assert len({file.name for file in files}) == 3
    assert files[2].algorithm == "sha512"


def test_an_uploaded_file_is_never_taken_for_a_downloaded_one():
    """It is listed before it is whole."""
    file = image_file(Image.model_validate(IMAGE | {"via": "Operator"}))
    assert file.uploaded
    assert file.name == "debian-12-a1b2c3d4e5f60718-uploaded.qcow2"
    assert not image_file(Image.model_validate(IMAGE)).uploaded


def test_an_image_that_lies_on_a_storage_is_not_downloaded():
    assert image_file(Image.model_validate({"volume": "nas:import/a.qcow2"})) is None


@given(
    st.text("abcXYZ019._~!$&()*+,;=:@%/-", max_size=200),
    st.sampled_from((".qcow2", ".img", ".raw", ".vmdk")),
)
def test_whatever_url_is_accepted_proxmox_takes_the_name_of_the_file(path, ending):
    """No path, no dot in front, an extension that it knows, at most 255 bytes with what it adds."""
    file = image_file(Image.model_validate(IMAGE | {"url": f"https://x.org/{path}{ending}"}))
    assert re.fullmatch(r"[A-Za-z0-9+=_][A-Za-z0-9.+=_-]*\.(qcow2|raw|vmdk)", file.name)
    assert len(file.name) < 200


# Names


def test_a_mark_names_template_and_version_and_is_read_back():
    assert marked_version("debian-12", marked_name("debian-12", "0123456789")) == "0123456789"


@pytest.mark.parametrize(
    "marked",
    [
        "debian-12",
        "debian-12@",
        "debian-12@012345678",
        "debian-12@012345678G",
        "debian-1@0123456789",
        "@0123456789",
    ],
)
def test_a_mark_of_something_else_is_none_of_it(marked):
    assert marked_version("debian-12", marked) is None


@given(
    st.from_regex(
        r"[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?){0,3}", fullmatch=True
    )
)
def test_the_name_in_proxmox_is_a_dns_label_that_ends_in_the_version(name):
    found = proxmox_name(name, "0123456789")
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", found)
    assert found.endswith("-0123456789")


def test_a_short_name_is_kept_whole():
    assert proxmox_name("debian-12.eu", "0123456789") == "debian-12-eu-0123456789"
