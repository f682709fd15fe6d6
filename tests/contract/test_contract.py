"""What the operator relies on in Proxmox VE, in its own words: one test for each fact, through the client
it uses.

Runs on the simulator, and on a real cluster (see conftest.py). A difference is a bug of the simulator or of
a fact.
"""

import asyncio
import time

import pytest

from proxmox_operator import errors
from proxmox_operator.planning import disks
from proxmox_operator.planning.availability import HAResource
from proxmox_operator.planning.harules import RESOURCE, Rule
from proxmox_operator.proxmox.cluster import probe
from proxmox_operator.proxmox.credentials import Endpoint, TLSSettings, TokenCredentials
from proxmox_operator.proxmox.errors import AlreadyRunning, NotHere, NotRunning, Taken
from proxmox_operator.proxmox.ha import RULES_SINCE
from proxmox_operator.proxmox.https import ProxmoxerTransport
from proxmox_operator.proxmox.identity import normal_fingerprint
from proxmox_operator.proxmox.permissions import Scope, missing, permissions
from proxmox_operator.proxmox.request import Request
from proxmox_operator.proxmox.tasks import UPID, Outcome
from proxmox_operator.proxmox.transport import Refused
from proxmox_operator.proxmox.vm import Presence

from .conftest import MARK, Proxmox, Target

pytestmark = pytest.mark.contract


async def test_the_cluster_names_its_version_quorum_and_ca(pve: Proxmox):
    info = await probe(pve.session.client)
    assert info.major in (8, 9)
    assert info.quorate is True
    assert pve.node in info.nodes
    assert len(normal_fingerprint(info.identity.ca_fingerprint)) == 64


async def test_a_wrong_secret_is_answered_with_401(target: Target):
    transport = ProxmoxerTransport(
        Endpoint.parse(target.url), TokenCredentials(target.token_id, "wrong"), TLSSettings(target.ca)
    )
    with pytest.raises(Refused) as caught:
        await asyncio.to_thread(transport.send, Request("GET", ("version",)))
    assert caught.value.status == 401


async def test_the_token_may_do_what_the_operator_needs(pve: Proxmox):
    info = await probe(pve.session.client)
    granted = await permissions(pve.session.client)
    assert missing(granted, Scope(templates=(pve.template,)), info.major) == []


async def test_the_inventory_lists_nodes_storages_and_the_template(pve: Proxmox):
    snapshot = await pve.session.inventory.poll()
    assert snapshot is not None
    assert snapshot.nodes[pve.node].online
    assert (snapshot.nodes[pve.node].maxmem or 0) > 2**20
    assert snapshot.guests[pve.template].template
    assert snapshot.guests[pve.template].node == pve.node
    assert any(
        "images" in storage.content for storage in snapshot.storages.values() if storage.node == pve.node
    )


async def test_the_bridges_of_a_node_are_listed(pve: Proxmox):
    assert await pve.session.bridges(pve.node)


async def test_a_vmid_in_use_is_not_free_and_its_absence_is_disproven(pve: Proxmox):
    assert not await pve.vms.vmid_free(pve.template)
    assert (await pve.vms.prove_absent(pve.template)).presence is Presence.EXISTS
    free = await pve.free_id()
    assert await pve.vms.vmid_free(free)
    assert (await pve.vms.prove_absent(free)).presence is Presence.ABSENT


async def test_a_missing_vm_is_not_here(pve: Proxmox):
    free = await pve.free_id()
    with pytest.raises(NotHere):
        await pve.vms.config(pve.node, free)


async def test_a_clone_keeps_name_and_description_and_gets_uuid_and_macs_of_its_own(pve: Proxmox, vmid: int):
    template, clone = await pve.vms.config(pve.node, pve.template), await pve.vms.config(pve.node, vmid)
    assert (clone.raw["name"], clone.raw["description"].strip()) == ("contract-test", MARK)
    assert not clone.is_template
    assert clone.lock is None
    assert clone.raw["smbios1"] != template.raw.get("smbios1")
    for key in (key for key in template.raw if key.startswith("net")):
        assert clone.raw[key] != template.raw[key]


async def test_the_task_of_a_clone_names_the_template_and_its_log_the_new_id(pve: Proxmox):
    vmid, since = await pve.free_id(), time.time()
    upid = await pve.vms.clone(pve.node, pve.template, vmid, name="contract-test", description=MARK)
    assert (UPID.parse(upid).type, UPID.parse(upid).id) == ("qmclone", str(pve.template))
    assert (await pve.result(upid)).outcome in (Outcome.OK, Outcome.WARNINGS)
    found = await pve.session.tasks.find_clone(pve.template, vmid, node=pve.node, since=since)
    assert found is not None
    assert found.upid.text == upid
    assert not found.running
    await pve.succeed(pve.vms.destroy(pve.node, vmid))
    assert (await pve.vms.prove_absent(vmid)).presence is Presence.ABSENT


async def test_cloning_to_an_id_in_use_says_that_it_is_taken(pve: Proxmox, vmid: int):
    error = await pve.failure(pve.vms.clone(pve.node, pve.template, vmid, name="twice", description=MARK))
    assert isinstance(error, Taken)
    assert (await pve.vms.config(pve.node, vmid)).raw["name"] == "contract-test"


async def test_a_short_config_write_is_done_at_once_and_changes_the_digest(pve: Proxmox, vmid: int):
    before = await pve.vms.config(pve.node, vmid)
    assert (
        await pve.vms.set_config(pve.node, vmid, {"cores": 2, "onboot": True}, digest=before.digest) is None
    )
    after = await pve.vms.config(pve.node, vmid)
    assert (after.raw["cores"], after.raw["onboot"]) == ("2", "1")
    assert after.digest != before.digest


async def test_a_write_with_an_old_digest_is_refused(pve: Proxmox, vmid: int):
    before = await pve.vms.config(pve.node, vmid)
    await pve.succeed(pve.vms.set_config(pve.node, vmid, {"cores": 2}, digest=before.digest))
    error = await pve.failure(pve.vms.set_config(pve.node, vmid, {"cores": 3}, digest=before.digest))
    assert isinstance(error, errors.Outdated)
    assert (await pve.vms.config(pve.node, vmid)).raw["cores"] == "2"


async def test_a_wrong_parameter_is_refused_by_name(pve: Proxmox, vmid: int):
    config = await pve.vms.config(pve.node, vmid)
    error = await pve.failure(pve.vms.set_config(pve.node, vmid, {"cores": "many"}, digest=config.digest))
    assert isinstance(error, errors.Rejected)
    assert "cores" in error.message


async def test_what_only_root_may_set_is_refused_for_good(pve: Proxmox, vmid: int):
    config = await pve.vms.config(pve.node, vmid)
    error = await pve.failure(pve.vms.set_config(pve.node, vmid, {"args": "-S"}, digest=config.digest))
    assert error is not None
    assert error.reason == "RootOnly"


async def test_a_disk_grows_and_does_not_shrink(pve: Proxmox, vmid: int):
    config = await pve.vms.config(pve.node, vmid)
    disk = next(key for key in ("scsi0", "virtio0", "sata0", "ide0") if key in config.raw)
    await pve.succeed(pve.vms.resize(pve.node, vmid, disk=disk, size="64G", digest=config.digest))
    config = await pve.vms.config(pve.node, vmid)
    assert "size=64G" in config.raw[disk]
    error = await pve.failure(pve.vms.resize(pve.node, vmid, disk=disk, size="1G", digest=config.digest))
    assert error is not None
    assert error.reason == "ShrinkRefused"


async def test_a_disk_taken_away_stays_as_unused_and_comes_back_with_its_volume(pve: Proxmox, vmid: int):
    async def write(changes: dict[str, str], *gone: str) -> dict[str, str]:
        digest = (await pve.vms.config(pve.node, vmid)).digest
        await pve.succeed(pve.vms.set_config(pve.node, vmid, changes, digest=digest, delete=gone))
        return dict((await pve.vms.config(pve.node, vmid)).raw)

    storage = disks.boot_storage((await pve.vms.config(pve.node, vmid)).raw) or ""
    made = disks.Drive.parse((await write({"scsi9": f"{storage}:1,serial=contract"}))["scsi9"])
    assert (made.size, made.options["serial"]) == (1 << 30, "contract")
    assert made.volume in await pve.vms.volumes(pve.node, vmid, storage)
    config = await write({}, "scsi9")
    assert "scsi9" not in config
    (unused,) = (key for key, volume in disks.unused(config).items() if volume == made.volume)
    config = await write({"scsi9": f"{made.volume},serial=contract"})
    assert disks.Drive.parse(config["scsi9"]) == made
    assert unused not in config
    config = await write({}, "scsi9")
    (unused,) = (key for key, volume in disks.unused(config).items() if volume == made.volume)
    assert unused not in await write({}, unused)
    assert made.volume not in await pve.vms.volumes(pve.node, vmid, storage)
    assert await pve.vms.snapshots(pve.node, vmid) == {}


async def test_power_the_second_start_pending_values_and_the_agent_of_a_stopped_vm(pve: Proxmox, vmid: int):
    with pytest.raises((NotRunning, errors.NeedsHuman)):
        await pve.vms.agent_addresses(pve.node, vmid)
    await pve.succeed(pve.vms.start(pve.node, vmid))
    assert (await pve.vms.status(pve.node, vmid)).status == "running"
    error = await pve.failure(pve.vms.start(pve.node, vmid))
    assert error is None or isinstance(error, AlreadyRunning)
    config = await pve.vms.config(pve.node, vmid)
    await pve.succeed(pve.vms.set_config(pve.node, vmid, {"cores": 3}, digest=config.digest))
    assert "cores" in {change.key for change in (await pve.vms.config(pve.node, vmid)).pending}
    await pve.succeed(pve.vms.stop(pve.node, vmid))
    assert (await pve.vms.status(pve.node, vmid)).status == "stopped"
    await pve.succeed(pve.vms.start(pve.node, vmid))
    assert (await pve.vms.config(pve.node, vmid)).pending == ()


async def test_a_protected_vm_is_not_destroyed(pve: Proxmox, vmid: int):
    config = await pve.vms.config(pve.node, vmid)
    await pve.succeed(pve.vms.set_config(pve.node, vmid, {"protection": True}, digest=config.digest))
    error = await pve.failure(pve.vms.destroy(pve.node, vmid))
    assert error is not None
    assert error.reason == "Protected"
    config = await pve.vms.config(pve.node, vmid)
    await pve.succeed(pve.vms.set_config(pve.node, vmid, {"protection": False}, digest=config.digest))


async def test_a_resource_of_ha_is_made_once_changed_by_single_keys_and_removed(pve: Proxmox, vmid: int):
    """State ``ignored``: the HA manager of a real cluster is not set to work."""
    ha = pve.session.ha
    await ha.add(vmid, state="ignored", max_restart=2, max_relocate=0, comment="contract-test")
    with pytest.raises(errors.Outdated):
        await ha.add(vmid, state="ignored", max_restart=2, max_relocate=0, comment="twice")
    await ha.change(vmid, {"max_restart": 3})
    wanted = HAResource(state="ignored", max_restart=3, max_relocate=0, comment="contract-test")
    assert (await ha.resources())[vmid] == wanted
    snapshot = await pve.session.inventory.poll()
    assert snapshot is not None
    assert snapshot.guests[vmid].hastate == "ignored"
    await ha.remove(vmid)
    assert vmid not in await ha.resources()
    with pytest.raises(errors.Outdated):
        await ha.remove(vmid)


async def test_rules_of_ha_exist_since_version_9_and_one_vm_is_no_group(pve: Proxmox, vmid: int):
    ha, info = pve.session.ha, await probe(pve.session.client)
    if info.major < RULES_SINCE:
        with pytest.raises(errors.Rejected):
            await ha.rules()
        return
    await ha.add(vmid, state="ignored", max_restart=1, max_relocate=1, comment="contract-test")
    lonely = Rule(
        id=f"contract-{vmid}", type=RESOURCE, resources=frozenset({f"vm:{vmid}"}), affinity="negative"
    )
    with pytest.raises(errors.Rejected):
        await ha.put_rule(lonely, digest=None)
    assert lonely.id not in (await ha.rules()).found
    await ha.remove(vmid)
