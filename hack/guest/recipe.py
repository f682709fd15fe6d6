"""What the guest image is: Debian 12 with cloud-init, the guest agent and what the operator runs in a VM.

Data only, so that a digest of this file names the image in the cache. It boots by itself from a single
virtio-scsi disk under SeaBIOS, as a vendor's cloud image does: the root partition is the last one and grows. Not
like a vendor's image: it has no package sources (an upgrade at first boot ends at once, without a network), no
recommended packages, no boot menu, and no UEFI.
"""

SUITE = "bookworm"

# To be raised when build.py makes something else of the rest.
VERSION = 1

PACKAGES = [
    "cloud-guest-utils",
    "cloud-init",
    "cryptsetup-bin",
    "dbus",
    "e2fsprogs",
    "fdisk",
    "ifupdown",
    "iproute2",
    "isc-dhcp-client",
    "kmod",
    "libpam-modules",
    "libpam-pwquality",
    "linux-image-cloud-amd64",
    "nftables",
    "openssh-server",
    "procps",
    "qemu-guest-agent",
    "sudo",
    "systemd-sysv",
    "udev",
    "util-linux",
    "xfsprogs",
    "zstd",
]

# Documentation and translations: a quarter of the root file system.
EXCLUDED_PATHS = ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"]

MIB = 1024**2
# One partition, in MiB; the boot loader lies in the gap before it.
ROOT_START, ROOT_SIZE = 1, 1535

# Built into the boot loader: kernel and initrd are the links that Debian's kernel package keeps in /.
# On a busy host an emulated guest gets so little time that its kernel finds the timer broken, or the clock unstable.
GRUB_CONFIG = """\
linux /vmlinuz root=LABEL=root ro console=tty0 console=ttyS0 quiet \
mitigations=off nowatchdog no_timer_check tsc=reliable fsck.mode=skip
initrd /initrd.img
boot
"""
GRUB_MODULES = ["biosdisk", "part_msdos", "ext2", "linux"]

UNUSED_MODULES = [
    "aesni_intel",
    "ata_generic",
    "crc32_pclmul",
    "crc32c_intel",
    "crct10dif_pclmul",
    "ghash_clmulni_intel",
    "kvm",
    "kvm_amd",
    "powernow_k8",
    "serio_raw",
    "sg",
    "sha1_ssse3",
    "sha256_ssse3",
    "sha512_ssse3",
]

# Files put there before the packages: (content, executable).
FILES = {
    "etc/fstab": ("LABEL=root / ext4 defaults,noatime 0 0\n", False),
    "etc/hostname": ("localhost\n", False),
    # Only what the root disk, cloud-init's medium and the NIC need (cloud-init wants these before udev has loaded
    # drivers): the initrd is unpacked at every boot.
    "etc/initramfs-tools/conf.d/guest": ("MODULES=list\nCOMPRESS=zstd\nFSTYPE=ext4\n", False),
    "etc/initramfs-tools/hooks/guest": (
        """\
#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_scsi virtio_blk virtio_net sd_mod ext4 ata_piix ahci sr_mod isofs
""",
        True,
    ),
    # What a processor or the machine could have drivers for, and no test needs: half a minute of each boot.
    "etc/modprobe.d/guest.conf": ("".join(f"blacklist {module}\n" for module in UNUSED_MODULES), False),
    # Device files of consoles and kernel modules as such have no rules that matter; the serial console has.
    "etc/systemd/system/systemd-udev-trigger.service.d/guest.conf": (
        """\
[Service]
ExecStart=
ExecStart=-udevadm trigger --type=devices --action=add --subsystem-nomatch=tty --subsystem-nomatch=vc \
    --prioritized-subsystem=block,net
ExecStart=-udevadm trigger --type=devices --action=add --sysname-match=ttyS0
""",
        False,
    ),
    # A guest has no login on its console where the device takes longer than systemd's 90 s, as it does on a busy host.
    "etc/systemd/system.conf.d/guest.conf": (
        "[Manager]\nDefaultTimeoutStartSec=30min\nDefaultDeviceTimeoutSec=30min\n",
        False,
    ),
    "etc/systemd/journald.conf.d/guest.conf": ("[Journal]\nStorage=volatile\n", False),
    "etc/cloud/cloud.cfg.d/95-guest.cfg": (
        """\
datasource_list: [NoCloud, ConfigDrive, None]
locale: false
ssh_genkeytypes: [ed25519]
cloud_init_modules:
  - bootcmd
  - write-files
  - growpart
  - resizefs
  - disk_setup
  - mounts
  - set_hostname
  - update_hostname
  - update_etc_hosts
  - users-groups
  - ssh
cloud_config_modules:
  - set-passwords
  - timezone
  - runcmd
cloud_final_modules:
  - write-files-deferred
  - scripts-vendor
  - scripts-per-once
  - scripts-per-boot
  - scripts-per-instance
  - scripts-user
  - final-message
  - power-state-change
""",
        False,
    ),
}

# Neither timers nor mounts and services that nothing here uses.
MASKED_UNITS = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "cloud-init-hotplugd.socket",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-pstore.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
]

# Run in the new root, after the packages.
FINISH = f"""\
set -eu
systemctl mask {" ".join(MASKED_UNITS)}
passwd -l root
rm -f /etc/ssh/ssh_host_* /etc/apt/sources.list /etc/apt/sources.list.d/*
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*.log /var/log/apt
: > /etc/machine-id
"""
