"""Every error text of Proxmox that we know leads to the right next step. Texts are verbatim from its
sources.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_operator import errors
from proxmox_operator.proxmox.errors import (
    MAX_TEXT,
    RULES,
    AgentRefused,
    AgentUnavailable,
    AlreadyRunning,
    Locked,
    LostProcess,
    NoSuchTask,
    NotHere,
    NotQuorate,
    NotRunning,
    OutcomeUnknown,
    StillRunning,
    Taken,
    classify_response,
    classify_task,
)

DAMAGED = "checksum mismatch: got 'deadbeef' != expect 'cafecafe'"

TEXTS = [
    (DAMAGED, errors.NeedsHuman, "ChecksumMismatch"),
    ("Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist", NotHere, "VMNotFound"),
    ("unable to find configuration file for VM 100 on node 'pve1'", NotHere, "VMNotFound"),
    ("unable to create VM 100: config file already exists", Taken, "VMIDTaken"),
    ("unable to create VM 100 - VM 100 already exists on node 'pve2'", Taken, "VMIDTaken"),
    ("CT 100 already exists on node 'pve2'", Taken, "VMIDTaken"),
    (
        "close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/100.conf' failed: File exists",
        Taken,
        "VMIDTaken",
    ),
    (
        "close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/100.conf' failed: File exists",
        Taken,
        "VMIDTaken",
    ),
    ("VM is locked (backup)", Locked, "Locked"),
    ("VM is locked (snapshot-delete)", Locked, "Locked"),
    (
        "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
        errors.Contended,
        "LockTimeout",
    ),
    ("error with cfs lock 'storage-ceph': got lock request timeout", errors.Contended, "LockTimeout"),
    ("cfs-lock 'storage-ceph' error: got lock request timeout", errors.Contended, "LockTimeout"),
    ("checksum mismatch (file change by other user?)", errors.Outdated, "Outdated"),
    ("detected modified configuration - file changed by other user? Try again.", errors.Outdated, "Outdated"),
    ("migration aborted", errors.NeedsHuman, "MoveFailed"),
    ("migration problems", errors.NeedsHuman, "MoveFailed"),
    ("can't migrate running VM without --online", errors.Outdated, "Outdated"),
    ("target is local node.", errors.Outdated, "Outdated"),
    ("can't remove VM 100 - protection mode enabled", errors.NeedsHuman, "Protected"),
    ("VM 100 is running - destroy failed", StillRunning, "VMRunning"),
    ("resource ID 'vm:100' already defined", errors.Outdated, "Outdated"),
    ("no such resource 'vm:100'", errors.Outdated, "Outdated"),
    ("cannot delete service 'vm:100', not HA managed!", errors.Outdated, "Outdated"),
    ("create ha rule failed: HA rule 'pvm-100-nodes' already defined", errors.Outdated, "Outdated"),
    ("update HA rules failed: HA rule 'pvm-100-nodes' does not exist", errors.Outdated, "Outdated"),
    ("service 'vm:100' in error state, must be disabled and fixed first", errors.Transient, "HAError"),
    ("cannot create ha rule: ha groups have not been migrated yet", errors.Waiting, "RulesNotSupported"),
    ("Rule 'pvm-100-nodes' is invalid.", errors.Rejected, "RuleRefused"),
    ("cannot use unmanaged resource(s) vm:100.", errors.Rejected, "RuleRefused"),
    ("cannot use non-existent node(s) pve9.", errors.Rejected, "RuleRefused"),
    (
        "unable to remove VM 100 - used in HA resources and purge parameter not set.",
        errors.NeedsHuman,
        "ManagedByHA",
    ),
    ("VM 100 already running", AlreadyRunning, "AlreadyRunning"),
    ("No QEMU guest agent configured", errors.NeedsHuman, "AgentNotConfigured"),
    ("VM 100 is not running", NotRunning, "VMNotRunning"),
    ("VM 100 not running", NotRunning, "VMNotRunning"),
    ("QEMU guest agent is not running", AgentUnavailable, "AgentUnavailable"),
    (
        "VM 100 qga command 'guest-network-get-interfaces' failed - got timeout",
        AgentUnavailable,
        "AgentUnavailable",
    ),
    ("VM 100 qmp command 'guest-ping' failed - got timeout", AgentUnavailable, "AgentUnavailable"),
    ("Agent error: Invalid parameter 'pid'", LostProcess, "ProcessLost"),
    (
        "Agent error: The command guest-exec has been disabled for this instance",
        AgentRefused,
        "ExecNotAllowed",
    ),
    (
        'Agent error: Guest agent command failed, error was \'Failed to execute child process "cloud-init" (No such '
        "file or directory)'",
        AgentRefused,
        "CommandNotFound",
    ),
    ("VM quit/powerdown failed - got timeout", errors.NeedsHuman, "ShutdownTimeout"),
    ("storage 'ceph' does not exist", errors.NeedsHuman, "StorageNotFound"),
    ("storage 'ceph' is not available on node 'pve1'", errors.NeedsHuman, "StorageNotUsable"),
    ("storage 'ceph' is disabled", errors.NeedsHuman, "StorageNotUsable"),
    (
        "local:0: content type 'images' is not available on storage 'local'",
        errors.NeedsHuman,
        "StorageNotUsable",
    ),
    ("storage 'nfs1' is not online", errors.Transient, "StorageUnavailable"),
    (
        "unable to activate storage 'dir1' - directory '/mnt/x' does not exist",
        errors.Transient,
        "StorageUnavailable",
    ),
    ("no such volume group 'pve'", errors.Transient, "StorageUnavailable"),
    ("clone failed: No space left on device", errors.NeedsHuman, "StorageFull"),
    ("write to temporary file failed - No space left on device", errors.NeedsHuman, "StorageFull"),
    ("not enough free space (1024 < 2048)", errors.NeedsHuman, "StorageFull"),
    ("zfs error: cannot create 'rpool/data/vm-100-disk-0': out of space", errors.NeedsHuman, "StorageFull"),
    (
        "can't activate LV '/dev/pve/vm-100-disk-0': Failed to find logical volume \"pve/vm-100-disk-0\"",
        errors.NeedsHuman,
        "VolumeNotFound",
    ),
    ("can't activate LV '/dev/pve/x' to zero-out its data", errors.Transient, "StorageUnavailable"),
    ("SSH public key validation error", errors.Rejected, "InvalidSSHKey"),
    ("Too many unused volumes - please delete them first.", errors.NeedsHuman, "TooManyDetachedDisks"),
    ("you can't start a vm if it's a template", errors.NeedsHuman, "IsTemplate"),
    ("VM is paused - cannot shutdown", errors.NeedsHuman, "VMPaused"),
    ("start failed: QEMU exited with code 1", errors.Transient, "StartFailed"),
    (
        "lvcreate 'pve/vm-100-disk-0' error:   Cannot create new thin volume, free space in thin pool pve/data "
        "reached threshold.",
        errors.NeedsHuman,
        "StorageFull",
    ),
    ("bridge 'vmbr9' does not exist", errors.NeedsHuman, "BridgeNotFound"),
    ("volume 'local-lvm:vm-100-disk-0' does not exist", errors.NeedsHuman, "VolumeNotFound"),
    ("volume local-lvm:vm-100-disk-0 does not exist", errors.NeedsHuman, "VolumeNotFound"),
    (
        "Linked clone feature is not supported for 'lvm:vm-9000-disk-0' (scsi0)",
        errors.NeedsHuman,
        "CloneNotSupported",
    ),
    ("can't clone VM to node 'pve2' (VM uses local storage)", errors.NeedsHuman, "CloneNotSupported"),
    ("can't clone to non-shared storage 'local-lvm'", errors.NeedsHuman, "CloneNotSupported"),
    ("parameter 'storage' not allowed for linked clones", errors.NeedsHuman, "CloneNotSupported"),
    ("snapshot 'gold' does not exist", errors.NeedsHuman, "SnapshotNotFound"),
    ("pool 'k8s' does not exist", errors.NeedsHuman, "PoolNotFound"),
    (
        "base volume 'base-9000-disk-0' is still in use by linked clones",
        errors.NeedsHuman,
        "BaseInUse",
    ),
    (
        "download failed: Cannot write to '/mnt/images/a.tmp_dwnl.12' (No space left on device).",
        errors.NeedsHuman,
        "StorageFull",
    ),
    ("download failed: exit code 8", errors.NeedsHuman, "DownloadFailed"),
    (
        "failed to verify file: qemu-img: Could not open '/mnt/images/a.tmp_dwnl.12': Image is not in qcow2 format",
        errors.NeedsHuman,
        "ImageInvalid",
    ),
    ("base volume 'lvm:base-9000-disk-0' is still in use by linked cloned", errors.NeedsHuman, "BaseInUse"),
    ("shrinking disks is not supported", errors.NeedsHuman, "ShrinkRefused"),
    ("you can't move a disk with snapshots and delete the source", errors.NeedsHuman, "SnapshotsPrevent"),
    (
        "unable to delete 'local-lvm:vm-100-disk-1' - volume is still in use (snapshot?)",
        errors.NeedsHuman,
        "SnapshotsPrevent",
    ),
    ("you can't move to the same storage with same format", errors.Outdated, "Outdated"),
    ("disk 'scsi1' does not exist", errors.Outdated, "Outdated"),
    (
        "storage migration failed: lvcreate 'pve/vm-100-disk-1' error: insufficient free space",
        errors.NeedsHuman,
        "StorageFull",
    ),
    ("cluster not ready - no quorum?", NotQuorate, "NotQuorate"),
    ("no quorum!", NotQuorate, "NotQuorate"),
    ("no such cluster node 'pve9'", errors.NeedsHuman, "NodeNotFound"),
    (
        "hostname lookup 'pve9' failed - failed to get address info for: pve9: Name or service not known",
        errors.NeedsHuman,
        "NodeNotFound",
    ),
    ("only root can set 'amd-sev' config", errors.Rejected, "RootOnly"),
    ("only root can set 'hostpci0' config for non-mapped devices", errors.Rejected, "RootOnly"),
    (
        "KVM virtualisation configured, but not available. Either disable in VM configuration",
        errors.NeedsHuman,
        "KVMUnavailable",
    ),
    ("hotplug problem - error unplugging device", errors.Transient, "HotplugFailed"),
    ("no such task", NoSuchTask, "TaskNotFound"),
]


@pytest.mark.parametrize(("text", "kind", "reason"), TEXTS)
def test_a_text_means_the_same_in_an_answer_and_in_a_task(text, kind, reason):
    for error in (classify_response(500, text + "\n"), classify_task(text)):
        assert type(error) is kind
        assert error.reason == reason
        assert (text.rstrip(".") in error.message) == (text != DAMAGED)
        assert len(error.message) > len(text) + 10, "it must say what to do"


def test_a_privilege_that_is_missed_only_in_the_task_is_told_like_any_other():
    text = "403 Permission check failed (/mapping/pci/gpu, Mapping.Use)\n"
    for error in (classify_task(text), classify_response(500, f"failed to update VM 100: {text}")):
        assert isinstance(error, errors.Forbidden)
        assert error.path == "/mapping/pci/gpu"
        assert "the credentials lack Mapping.Use on /mapping/pci/gpu: grant it" in error.message


def test_checksums_of_what_may_be_secret_are_not_shown():
    error = classify_task(DAMAGED)
    assert error is not None
    assert "deadbeef" not in error.message
    assert "cafecafe" not in error.message


def test_every_rule_has_a_text_that_reaches_it():
    unused = [
        rule.pattern.pattern
        for rule in RULES
        if not any(rule is next(r for r in RULES if r.pattern.search(text)) for text, _, _ in TEXTS)
    ]
    reached_elsewhere = {"not implemented", "unexpected status"}
    assert [p for p in unused if not any(text in p for text in reached_elsewhere)] == []


@pytest.mark.parametrize(
    "lock",
    [
        "backup",
        "clone",
        "create",
        "migrate",
        "rollback",
        "snapshot",
        "snapshot-delete",
        "suspending",
        "suspended",
        "destroyed",
    ],
)
def test_a_lock_is_named_with_the_command_that_clears_a_stale_one(lock):
    error = classify_response(500, f"VM is locked ({lock})")
    assert isinstance(error, Locked)
    assert error.lock == lock
    assert "qm unlock" in error.message


@pytest.mark.parametrize("status", ["OK", "WARNINGS: 1", "WARNINGS: 12"])
def test_a_task_that_ended_well_is_no_error(status):
    assert classify_task(status) is None


@pytest.mark.parametrize(
    "status", ["unexpected status", "unable to get last line of task log", "interrupted by signal"]
)
def test_a_task_that_was_cut_short_has_an_unknown_outcome(status):
    assert isinstance(classify_task(status), OutcomeUnknown)


@pytest.mark.parametrize("status", ["WARNINGS: many", "OKAY", "not OK", ""])
def test_nothing_else_counts_as_success(status):
    assert isinstance(classify_task(status), errors.Transient)


def test_refused_credentials_need_a_person_and_name_the_secret():
    for message in ("No ticket", "invalid token value!", "permission denied - invalid PVE ticket"):
        error = classify_response(401, message)
        assert isinstance(error, errors.Unauthorized)
        assert "Secret" in error.message


def test_a_missing_privilege_is_named_with_its_path_and_the_command_that_grants_it():
    error = classify_response(403, "Permission check failed (/vms/100, VM.Config.Disk|VM.Allocate)")
    assert isinstance(error, errors.Forbidden)
    assert error.reason == "PermissionDenied"
    assert "VM.Config.Disk or VM.Allocate on /vms/100" in error.message
    assert "`pveum role modify <role> --append 1 --privs " in error.message


def test_what_only_root_may_do_is_not_a_missing_privilege():
    error = classify_response(403, "Permission check failed (user != root@pam)")
    assert isinstance(error, errors.Rejected)
    assert error.reason == "RootOnly"
    assert (
        classify_response(
            400, "Parameter verification failed.", {"skiplock": "Only root may use this option."}
        ).reason
        == "RootOnly"
    )


def test_a_pool_that_does_not_exist_is_told_even_as_403():
    assert (
        classify_response(403, "Permission check failed (pool 'k8s' does not exist)").reason == "PoolNotFound"
    )


def test_refused_parameters_are_listed_by_name():
    fields = {"cores": "value must have a minimum value of 1\n", "name": "invalid format"}
    error = classify_response(
        400, "Parameter verification failed.\n", fields, where="POST /nodes/pve1/qemu/100/config"
    )
    assert isinstance(error, errors.Rejected)
    assert error.reason == "InvalidParameter"
    assert "cores: value must have a minimum value of 1; name: invalid format" in error.message
    assert "POST /nodes/pve1/qemu/100/config" in error.message


def test_the_vmid_check_of_nextid_says_taken_and_not_invalid():
    assert isinstance(
        classify_response(400, "Parameter verification failed.", {"vmid": "VM 100 already exists"}), Taken
    )


def test_a_hotplug_problem_is_no_wrong_parameter():
    error = classify_response(
        400, "Parameter verification failed.", {"scsi1": "hotplug problem - no such bus"}
    )
    assert error.reason == "HotplugFailed"


def test_a_call_that_this_version_lacks_is_refused_for_good():
    error = classify_response(501, "Method 'POST /cluster/ha/rules' not implemented")
    assert isinstance(error, errors.Rejected)
    assert error.reason == "NotImplemented"


@pytest.mark.parametrize("status", [596, 597, 598, 599, 502, 504])
def test_a_write_that_got_no_further_than_the_proxy_may_have_happened(status):
    assert isinstance(classify_response(status, "Connection timed out", mutating=True), errors.AnswerLost)
    assert isinstance(classify_response(status, "Connection timed out"), errors.Unreachable)


@pytest.mark.parametrize("status", [595, 503])
def test_a_write_that_found_no_connection_did_not_happen(status):
    assert isinstance(classify_response(status, "No route to host", mutating=True), errors.Unreachable)


@given(
    st.text(), st.integers(min_value=400, max_value=599), st.dictionaries(st.text(), st.text(), max_size=3)
)
def test_any_answer_becomes_an_error_of_one_bounded_line(text, status, fields):
    error = classify_response(status, text, fields)
    assert isinstance(error, errors.OperatorError)
    assert error.reason.isalnum()
    assert "\n" not in error.message
    assert len(error.message) <= MAX_TEXT * 2 + 400


def test_an_unknown_text_is_kept_and_retried():
    error = classify_response(500, "flux capacitor empty\nat line 3")
    assert type(error) is errors.Transient
    assert "flux capacitor empty" in error.message
    assert "line 3" not in error.message
