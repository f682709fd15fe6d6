"""The seed of the first boot: there before the VM starts first, and gone when that boot is over or the VM is.

Attaching and ejecting are writes of the config (``planning.vmconfig.seed``); here is what comes before and after.
"""

from proxmox_operator.planning.lifecycle.checks import settling
from proxmox_operator.planning.lifecycle.facts import Facts, Present
from proxmox_operator.planning.lifecycle.steps import Blocked, DropSeed, NoteCloudInit, PutSeed, Step, Wait
from proxmox_operator.planning.seed import GONE, is_spent

_MAY_COME = "whether Proxmox was sent the seed is not known; it may still arrive"


def put_seed(facts: Facts) -> Step | None:
    """Before the first start: what the guest is to read is on its storage, and nowhere else."""
    seed = facts.seed
    if facts.vm.status.started or seed is None or seed.current:
        return None
    record, wanted = seed.record, seed.wanted
    if wanted is None:
        return drop_spent_seed(facts)
    elsewhere = record is not None and not wanted.is_of(record) and record.phase not in GONE
    if elsewhere and not seed.kept:
        return settling(facts, _MAY_COME) or DropSeed()
    return PutSeed()


def first_boot(facts: Facts) -> Step | None:
    """That cloud-init has finished is recorded, so that it is never asked again."""
    found = facts.first_boot
    return NoteCloudInit() if found is not None and found.state == "Done" else None


def await_first_boot(facts: Facts) -> Step | None:
    """What Ready waits for, where ``spec.readiness.cloudInit`` says so."""
    found = facts.first_boot
    if found is None or not facts.vm.spec.readiness.cloud_init:
        return None
    if found.state == "Failed":
        return Blocked(reason=found.reason, message=found.message)
    return Wait(reason=found.reason, message=found.message, after=found.after)


def drop_spent_seed(facts: Facts) -> Step | None:
    """Once it is ejected; what is attached is never taken away from under the VM."""
    seed = facts.seed
    if seed is None or seed.record is None or seed.attached or seed.kept or seed.record.phase in GONE:
        return None
    if not is_spent(facts.vm):
        return None
    return settling(facts, _MAY_COME) or DropSeed()


def drop_seed_of_gone_vm(facts: Facts) -> Step | None:
    """The VM does not exist, or is left in Proxmox with no seed attached: nothing of ours stays on its storage."""
    seed = facts.seed
    if seed is None or seed.record is None or seed.attached or seed.kept or seed.record.phase == "Removed":
        return None
    if isinstance(facts.existence, Present) and seed.record.phase in GONE:
        return None
    return settling(facts, _MAY_COME) or DropSeed()
