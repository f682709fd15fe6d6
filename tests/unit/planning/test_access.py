"""What a namespace may take from a ProxmoxCluster."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.api import LabelRequirement, LabelSelector
from proxmox_operator.planning.access import Access, access_of, inherited_violations, selects, violations
from unit.planning.make import UUID, a_vm, cluster, made

CLONE = {"cloneFrom": [{"start": 9000, "end": 9099}]}
LABELS = {"kubernetes.io/metadata.name": "shop", "team": "web"}


def granted(*grants, labels=LABELS) -> Access:
    return access_of(cluster(*grants), labels)


def refused(*grants, labels=LABELS, **spec):
    """The fields that are refused, in the order they are named."""
    found = violations(a_vm(**spec), granted(*grants, labels=labels))
    return [sentence.partition(":")[0] for sentence in found]


NET = {"name": "net0"}
DISK = {"name": "data", "size": "5Gi"}
TRUNK = NET | {"bridge": "vmbr1"}
VLANS = {
    "bridges": [
        {
            "name": "vmbr1",
            "vlans": [{"start": 10, "end": 15}, {"start": 16, "end": 20}, {"start": 30, "end": 30}],
        }
    ]
}
ADOPTED_BY_UUID: dict[str, Any] = {"source": {"adopt": {"uuid": UUID}}}
HA_ON_NODES = {"ha": True, "rule": {"nodeAffinity": {"nodes": [{"name": "pve1"}, {"name": "pve2"}]}}}


@pytest.mark.parametrize(
    ("grants", "spec", "fields"),
    [
        pytest.param([], {}, ["spec.source.clone.vmid"], id="without a grant no clone by VMID"),
        pytest.param([CLONE], {}, [], id="a clone from a granted range"),
        pytest.param(
            [{"cloneFrom": [{"start": 9001, "end": 9099}]}], {}, ["spec.source.clone.vmid"], id="just outside"
        ),
        pytest.param(
            [{"cloneFrom": [{"start": 8000, "end": 9000}]}], {}, [], id="the end belongs to the range"
        ),
        pytest.param([CLONE], {"vmid": 150}, ["spec.vmid"], id="a VMID needs a grant"),
        pytest.param([CLONE, {"vmids": [{"start": 150, "end": 150}]}], {"vmid": 150}, [], id="grants add up"),
        pytest.param([CLONE], {"disks": [DISK]}, [], id="the default storage is everybody's"),
        pytest.param([CLONE], {"disks": [DISK | {"storage": "local-lvm"}]}, [], id="also by its name"),
        pytest.param(
            [CLONE], {"disks": [DISK | {"storage": "ceph"}]}, ["spec.disks[data].storage"], id="no other is"
        ),
        pytest.param(
            [CLONE | {"storages": ["ceph"]}], {"disks": [DISK | {"storage": "ceph"}]}, [], id="unless granted"
        ),
        pytest.param(
            [CLONE | {"storages": ["*"]}], {"disks": [DISK | {"storage": "ceph"}]}, [], id="all of them"
        ),
        pytest.param(
            [CLONE],
            {"bootDisk": {"storage": "ceph"}},
            ["spec.bootDisk.storage"],
            id="the boot disk's storage",
        ),
        pytest.param(
            [CLONE], {"cloudInit": {"storage": "ceph"}}, ["spec.cloudInit.storage"], id="the seed's storage"
        ),
        pytest.param(
            [CLONE],
            {"source": {"clone": {"vmid": 9000, "full": True, "storage": "ceph"}}},
            ["spec.source.clone.storage"],
            id="the clone's storage",
        ),
        pytest.param([CLONE], {"networks": [NET]}, [], id="the default bridge, untagged, is everybody's"),
        pytest.param(
            [CLONE], {"networks": [NET | {"vlan": 20}]}, ["spec.networks[net0]"], id="a VLAN on it is not"
        ),
        pytest.param(
            [CLONE],
            {"networks": [NET | {"bridge": "vmbr1"}]},
            ["spec.networks[net0]"],
            id="nor another bridge",
        ),
        pytest.param(
            [CLONE | {"bridges": [{"name": "vmbr1"}]}],
            {"networks": [NET | {"bridge": "vmbr1"}, {"name": "net1", "bridge": "vmbr1", "vlan": 7}]},
            [],
            id="a bridge without VLANs: any, and untagged",
        ),
        pytest.param(
            [CLONE | {"bridges": [{"name": "vmbr1", "vlans": [{"start": 10, "end": 20}]}]}],
            {
                "networks": [
                    {"name": "net0", "bridge": "vmbr1", "vlan": 20},
                    {"name": "net1", "bridge": "vmbr1", "vlan": 21},
                    {"name": "net2", "bridge": "vmbr1"},
                ]
            },
            ["spec.networks[net1]", "spec.networks[net2]"],
            id="a bridge with VLANs: these, and not untagged",
        ),
        pytest.param(
            [CLONE | {"bridges": [{"name": "*"}]}],
            {"networks": [NET | {"bridge": "x", "vlan": 9}]},
            [],
            id="all",
        ),
        pytest.param(
            [CLONE | VLANS],
            {
                "networks": [
                    TRUNK | {"vlan": 10, "trunks": [{"start": 12, "end": 14}, {"start": 30, "end": 30}]},
                    TRUNK | {"name": "net1", "vlan": 10, "trunks": [{"start": 14, "end": 16}]},
                    TRUNK | {"name": "net2", "vlan": 10, "trunks": [{"start": 19, "end": 31}]},
                    TRUNK | {"name": "net3", "trunks": [{"start": 12, "end": 12}]},
                ]
            },
            ["spec.networks[net2].trunks", "spec.networks[net3]"],
            id="a trunk is access to all of its VLANs, and without a VLAN to the untagged one as well",
        ),
        pytest.param(
            [CLONE, {"bridges": [{"name": "vmbr1", "vlans": [{"start": 10, "end": 15}]}]}, VLANS],
            {"networks": [TRUNK | {"vlan": 30, "trunks": [{"start": 10, "end": 20}]}]},
            [],
            id="the VLANs of several grants add up to those of a trunk",
        ),
        pytest.param(
            [CLONE],
            {"networks": [NET | {"trunks": [{"start": 1, "end": 4094}]}]},
            ["spec.networks[net0].trunks"],
            id="the default bridge is everybody's, its VLANs are not",
        ),
        pytest.param(
            [CLONE | {"bridges": [{"name": "*"}]}],
            {"networks": [TRUNK | {"trunks": [{"start": 1, "end": 4094}]}]},
            [],
            id="a bridge without VLANs: any trunk",
        ),
        pytest.param(
            [CLONE | {"mappings": ["gpu"]}],
            {
                "pciDevices": [
                    {"name": "hostpci0", "mapping": "gpu"},
                    {"name": "hostpci1", "mapping": "nic"},
                ],
                "usbDevices": [{"name": "usb0", "mapping": "dongle"}],
            },
            ["spec.pciDevices[hostpci1].mapping", "spec.usbDevices[usb0].mapping"],
            id="devices by the names of their mappings",
        ),
        pytest.param(
            [CLONE | {"mappings": ["*"]}],
            {"usbDevices": [{"name": "usb0", "mapping": "dongle"}]},
            [],
            id="all devices",
        ),
        pytest.param(
            [CLONE], {"source": {"adopt": {"vmid": 104}}}, ["spec.source.adopt"], id="no VM may be taken over"
        ),
        pytest.param(
            [{"adopt": [{"start": 100, "end": 104}]}],
            {"source": {"adopt": {"vmid": 104}}},
            [],
            id="unless granted",
        ),
        pytest.param(
            [{"adopt": [{"start": 100, "end": 103}]}],
            {"source": {"adopt": {"vmid": 104}}},
            ["spec.source.adopt"],
            id="just outside of what may be taken over",
        ),
        pytest.param(
            [CLONE | {"cloneFrom": [{"start": 100, "end": 200}], "vmids": [{"start": 100, "end": 200}]}],
            {"source": {"adopt": {"vmid": 104}}},
            ["spec.source.adopt"],
            id="cloning a VM or asking for its VMID is not taking it over",
        ),
        pytest.param(
            [{"adopt": [{"start": 104, "end": 104}]}],
            {"source": {"adopt": {"vmid": 104}}, "vmid": 104},
            [],
            id="the VMID that an adopted VM has is not asked for",
        ),
        pytest.param([CLONE], ADOPTED_BY_UUID, ["spec.source.adopt"], id="nor by its UUID"),
        pytest.param(
            [{"adopt": [{"start": 104, "end": 104}]}],
            ADOPTED_BY_UUID,
            [],
            id="which VM it is comes out when it is found",
        ),
        pytest.param(
            [CLONE | {"nodes": ["pve1"], "availability": True}],
            {"availability": HA_ON_NODES},
            ["spec.availability.rule.nodeAffinity.nodes"],
            id="HA is not sent to a node that is not granted",
        ),
        pytest.param(
            [CLONE], {"availability": {"ha": True}}, ["spec.availability.ha"], id="no HA without a grant"
        ),
        pytest.param([CLONE], {"availability": {"ha": False}}, [], id="leaving HA needs none"),
        pytest.param(
            [CLONE, {"availability": True}], {"availability": {"ha": True}}, [], id="HA where it is granted"
        ),
        pytest.param([CLONE], {"placement": {"nodes": ["pve7"]}}, [], id="a grant without nodes means any"),
        pytest.param(
            [CLONE | {"nodes": ["pve1"]}],
            {"placement": {"nodes": ["pve1", "pve7"]}},
            ["spec.placement.nodes"],
            id="a node that is not granted",
        ),
        pytest.param(
            [{"allow": "Everything"}],
            {"vmid": 1000, "disks": [DISK | {"storage": "nfs"}]},
            [],
            id="everything",
        ),
        pytest.param(
            [CLONE | {"maxSizes": {"cores": 4, "memory": "8Gi", "disk": "4Gi"}}],
            {
                "cpu": {"cores": 4, "sockets": 2},
                "memory": {"size": "9Gi"},
                "bootDisk": {"size": "5Gi"},
                "disks": [DISK],
            },
            ["spec.cpu", "spec.memory.size", "spec.bootDisk.size", "spec.disks[data].size"],
            id="too large",
        ),
        pytest.param(
            [CLONE | {"maxSizes": {"cores": 4, "memory": "8Gi", "disk": "5Gi"}}],
            {"cpu": {"cores": 2, "sockets": 2}, "memory": {"size": "8192Mi"}, "bootDisk": {"size": "5Gi"}},
            [],
            id="exactly the largest",
        ),
        pytest.param(
            [CLONE | {"maxSizes": {"cores": 4}}],
            {"cpu": {"sockets": 16}},
            ["spec.cpu.cores"],
            id="sockets cannot multiply cores that nobody named",
        ),
        pytest.param(
            [CLONE | {"maxSizes": {"cores": 4}}, {"maxSizes": {"cores": 8}}],
            {"cpu": {"cores": 8}},
            [],
            id="the largest of several limits holds",
        ),
        pytest.param(
            [CLONE | {"maxSizes": {"cores": 4}}, {"storages": ["ceph"]}],
            {"cpu": {"cores": 8}},
            [],
            id="a grant without a limit sets none",
        ),
        pytest.param(
            [CLONE | {"maxSizes": {"cores": 4}}],
            {"memory": {"size": "1Ti"}},
            [],
            id="a limit on cores is none on memory",
        ),
        pytest.param(
            [CLONE | {"namespaceSelector": {"matchLabels": {"team": "db"}}}],
            {},
            ["spec.source.clone.vmid"],
            id="a grant to others",
        ),
    ],
)
def test_what_is_refused(grants, spec, fields):
    assert refused(*grants, **spec) == fields


def test_a_vm_adopted_by_its_uuid_is_judged_by_the_vmid_it_has():
    access = granted({"adopt": [{"start": 104, "end": 104}]})
    assert violations(a_vm(status=made(vmid=104), **ADOPTED_BY_UUID), access) == []
    [sentence] = violations(a_vm(status=made(vmid=105), **ADOPTED_BY_UUID), access)
    assert sentence == "spec.source.adopt: taking over the VM with this UUID is not granted (access[].adopt)"


LARGE = {
    "cores": "4",
    "sockets": "2",
    "memory": "8192",
    "scsi0": "local-lvm:base-9000-disk-0,size=32G",
    "ide2": "local:iso/x.iso,media=cdrom,size=700G",
}


@pytest.mark.parametrize(
    ("limits", "spec", "fields"),
    [
        pytest.param({}, {}, [], id="no limits"),
        pytest.param({"cores": 8, "memory": "8Gi", "disk": "32Gi"}, {}, [], id="exactly the largest"),
        pytest.param(
            {"cores": 7, "memory": "8191Mi", "disk": "31Gi"},
            {},
            ["spec.cpu", "spec.memory", "spec.source"],
            id="all above",
        ),
        pytest.param({"cores": 4}, {"cpu": {"cores": 4, "sockets": 1}}, [], id="the spec's cores instead"),
        pytest.param({"cores": 4}, {"cpu": {"cores": 4}}, ["spec.cpu"], id="times the source's sockets"),
        pytest.param({"cores": 4}, {"cpu": {"sockets": 1}}, [], id="the source's cores in one socket"),
        pytest.param({"memory": "4Gi"}, {"memory": {"size": "4Gi"}}, [], id="the spec's memory instead"),
        pytest.param({"disk": "16Gi"}, {"bootDisk": {"size": "16Gi"}}, ["spec.source"], id="no disk shrinks"),
    ],
)
def test_what_the_source_brings_along_counts_where_the_spec_says_nothing(limits, spec, fields):
    found = inherited_violations(a_vm(**spec), LARGE, granted(CLONE | {"maxSizes": limits}))
    assert [sentence.partition(":")[0] for sentence in found] == fields
    assert inherited_violations(a_vm(**spec), LARGE, granted({"allow": "Everything"})) == []


REF = {"templateRef": {"name": "debian-12"}}
OF_NODES = {"nodes": ["pve1"]}


@pytest.mark.parametrize(
    ("grants", "ref", "fields"),
    [
        pytest.param([], {}, [], id="without a grant any VMTemplate"),
        pytest.param([{"storages": ["ceph"]}], {}, [], id="a grant that lists none limits nothing"),
        pytest.param([{"templates": ["debian-12", "rocky-9"]}], {}, [], id="one that is listed"),
        pytest.param([{"templates": ["*"]}], {}, [], id="all of them"),
        pytest.param(
            [{"templates": ["rocky-9"]}], {}, ["spec.source.templateRef.name"], id="one that is not"
        ),
        pytest.param(
            [{"templates": ["debian-1"]}], {}, ["spec.source.templateRef.name"], id="half of a name is none"
        ),
        pytest.param([{"templates": ["rocky-9"]}, {"templates": ["debian-12"]}], {}, [], id="grants add up"),
        pytest.param([{"templates": ["rocky-9"]}, OF_NODES], {}, [], id="also one without such a list"),
        pytest.param(
            [{"templates": ["rocky-9"]}, OF_NODES | {"namespaceSelector": {"matchLabels": {"team": "db"}}}],
            {},
            ["spec.source.templateRef.name"],
            id="but not that of others",
        ),
        pytest.param([{"allow": "Everything"}], {"storage": "gold"}, [], id="everything"),
        pytest.param([], {"storage": "local-lvm"}, [], id="onto the default storage"),
        pytest.param([], {"storage": "gold"}, ["spec.source.templateRef.storage"], id="onto another one"),
        pytest.param([{"storages": ["gold"]}], {"storage": "gold"}, [], id="which is granted"),
        pytest.param(
            [{"cloneFrom": [{"start": 100, "end": 999999999}], "templates": ["rocky-9"]}],
            {},
            ["spec.source.templateRef.name"],
            id="the right to clone its copies is not the right to use it",
        ),
    ],
)
def test_a_vmtemplate_and_the_storage_of_a_full_clone(grants, ref, fields):
    assert refused(*grants, source={"templateRef": {"name": "debian-12"} | ref}) == fields


def test_what_a_vmtemplate_brings_along_is_limited_too():
    limits = {"templates": ["debian-12"], "maxSizes": {"cores": 7, "memory": "8191Mi", "disk": "31Gi"}}
    found = inherited_violations(a_vm(source=REF), LARGE, granted(limits))
    assert [sentence.partition(":")[0] for sentence in found] == ["spec.cpu", "spec.memory", "spec.source"]


def test_a_source_that_says_nothing_has_the_sizes_of_proxmox():
    assert (
        inherited_violations(a_vm(), {}, granted(CLONE | {"maxSizes": {"cores": 1, "memory": "512Mi"}})) == []
    )
    assert inherited_violations(a_vm(), {}, granted(CLONE | {"maxSizes": {"memory": "511Mi"}})) != []


def test_every_refusal_names_the_grant_that_is_missing():
    spec: dict[str, Any] = {
        "vmid": 150,
        "disks": [DISK | {"storage": "ceph"}],
        "networks": [NET | {"vlan": 20}],
        "cpu": {"cores": 8},
    }
    found = violations(a_vm(**spec), granted({"maxSizes": {"cores": 4}}))
    assert len(found) == 5
    assert [sentence for sentence in found if "(access[]." not in sentence] == []
    assert "VLAN 20" in next(sentence for sentence in found if "networks" in sentence)


def test_recovery_is_granted_by_name_and_never_with_everything():
    assert not granted(CLONE).recover
    assert granted({"recover": True}).recover
    assert not granted({"allow": "Everything"}).recover
    assert granted({"allow": "Everything", "recover": True}).recover
    assert not granted({"recover": True, "namespaceSelector": {"matchLabels": {"team": "db"}}}).recover


def test_nodes_of_several_grants_add_up_and_one_without_nodes_means_any():
    both = granted({"nodes": ["pve1"]}, {"nodes": ["pve2"]})
    assert [node for node in ("pve1", "pve2", "pve3") if both.allows_node(node)] == ["pve1", "pve2"]
    assert granted({"nodes": ["pve1"]}, CLONE).allows_node("pve3")


def rule(operator, *values):
    return LabelSelector(match_expressions=(LabelRequirement(key="env", operator=operator, values=values),))


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        pytest.param(None, {}, True, id="no selector selects everything"),
        pytest.param(LabelSelector(), {"a": "b"}, True, id="so does an empty one"),
        pytest.param(
            LabelSelector(match_labels={"env": "prod"}),
            {"env": "prod", "x": "y"},
            True,
            id="a label that fits",
        ),
        pytest.param(LabelSelector(match_labels={"env": "prod"}), {"env": "dev"}, False, id="another value"),
        pytest.param(
            LabelSelector(match_labels={"env": ""}), {}, False, id="an empty value is not a missing label"
        ),
        pytest.param(
            LabelSelector(match_labels={"a": "1", "b": "2"}), {"a": "1"}, False, id="all labels must fit"
        ),
        pytest.param(rule("In", "prod", "dev"), {"env": "dev"}, True, id="In"),
        pytest.param(rule("In", "prod"), {}, False, id="In needs the label"),
        pytest.param(rule("NotIn", "prod"), {"env": "dev"}, True, id="NotIn"),
        pytest.param(rule("NotIn", "prod"), {"env": "prod"}, False, id="NotIn refuses its values"),
        pytest.param(
            rule("NotIn", "prod"), {}, True, id="NotIn selects what has no such label, as Kubernetes does"
        ),
        pytest.param(rule("Exists"), {"env": ""}, True, id="Exists with an empty value"),
        pytest.param(rule("Exists"), {}, False, id="Exists needs the label"),
        pytest.param(rule("DoesNotExist"), {}, True, id="DoesNotExist"),
        pytest.param(rule("DoesNotExist"), {"env": "x"}, False, id="DoesNotExist refuses the label"),
        pytest.param(
            LabelSelector(match_labels={"a": "1"}, match_expressions=rule("Exists").match_expressions),
            {"a": "1"},
            False,
            id="labels and expressions must both hold",
        ),
    ],
)
def test_selectors_mean_what_they_mean_in_kubernetes(selector, labels, selected):
    assert selects(selector, labels) is selected


NAMES = st.sampled_from(("ceph", "local-lvm", "nfs", "*"))
GRANTS = st.fixed_dictionaries(
    {},
    optional={
        "storages": st.lists(NAMES, max_size=2),
        "cloneFrom": st.just([{"start": 9000, "end": 9000}]),
        "vmids": st.just([{"start": 100, "end": 200}]),
        "bridges": st.lists(st.fixed_dictionaries({"name": st.sampled_from(("vmbr1", "*"))}), max_size=1),
    },
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "vmid": st.sampled_from((150, 999)),
        "disks": NAMES.filter(str.isalpha).map(lambda name: [DISK | {"storage": name}]),
        "networks": st.sampled_from(("vmbr0", "vmbr1", "vmbr2")).map(lambda name: [NET | {"bridge": name}]),
    },
)


@given(st.lists(GRANTS, max_size=3), GRANTS, SPECS)
@settings(deadline=None)
def test_one_grant_more_never_takes_anything_away(grants, another, spec):
    vm = a_vm(**spec)
    assert set(violations(vm, granted(*grants, another))) <= set(violations(vm, granted(*grants)))
