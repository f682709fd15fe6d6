"""Snapshots of volumes: which can have them, what a rollback brings back, and what stands in its way.

Facts: volume_has_feature, volume_snapshot*, volume_rollback_is_possible of the plugins of pve-storage 9.1.7.
"""

from dataclasses import replace

from . import storage_types
from .core import die
from .storage import Volume, Volumes


class VolumeSnapshots(Volumes):
    """What a volume can do, and its snapshots."""

    def has_feature(self, feature: str, volid: str, node: str, *, snapshot: bool = False) -> bool:
        """volume_has_feature for a volume that exists: snapshot, clone, template, copy, rename."""
        volume = self.volume(volid, node)
        if volume is None:
            return False
        base = "base-" in volume.name.rpartition("/")[2]
        where = "snap" if snapshot else "base" if base else "current"
        return storage_types.has_feature(self._kind(volid), feature, where, volume.format)

    def _kind(self, volid: str) -> str:
        return str(self.storages[volid.partition(":")[0]]["type"])

    def _existing(self, volid: str, node: str) -> Volume:
        volume = self.volume(volid, node)
        if volume is None:
            raise die(f"no such volume '{volid}'")
        return volume

    def _store_volume(self, volid: str, node: str, volume: Volume) -> None:
        self.disks_on(volid.partition(":")[0], node)[volume.name] = volume

    def snapshot_volume(self, volid: str, node: str, name: str) -> None:
        """volume_snapshot: what is on the volume now can be brought back."""
        volume = self._existing(volid, node)
        taken = (*volume.snapshots, (name, volume.data, volume.size))
        self._store_volume(volid, node, replace(volume, snapshots=taken))

    def delete_volume_snapshot(self, volid: str, node: str, name: str) -> None:
        """volume_snapshot_delete."""
        volume = self._existing(volid, node)
        left = tuple(taken for taken in volume.snapshots if taken[0] != name)
        self._store_volume(volid, node, replace(volume, snapshots=left))

    def take_snapshots_along(self, volid: str, node: str, original: Volume) -> None:
        """A copy that was made together with the snapshots of its original."""
        self._store_volume(volid, node, replace(self._existing(volid, node), snapshots=original.snapshots))

    def check_rollback(self, volid: str, node: str, name: str) -> None:
        """volume_rollback_is_possible.

        :raises PveError: 500: a newer snapshot is in the way (ZFS).
        """
        if self._kind(volid) not in storage_types.ROLLS_BACK_NEWEST:
            return
        names = [taken[0] for taken in self._existing(volid, node).snapshots]
        if name not in names:
            raise die(f"can't rollback, snapshot '{name}' does not exist on '{volid}'")
        if names[-1] != name:
            raise die(f"can't rollback, '{name}' is not most recent snapshot on '{volid}'")

    def rollback_volume(self, volid: str, node: str, name: str) -> None:
        """volume_snapshot_rollback: data and size are the snapshot's."""
        volume = self._existing(volid, node)
        for taken, data, size in volume.snapshots:
            if taken == name:
                self._store_volume(volid, node, replace(volume, data=data, size=size))

    def write_data(self, volid: str, node: str) -> None:
        """The guest writes to its disk: its data is not what it was."""
        self._store_volume(volid, node, replace(self._existing(volid, node), data=next(self._data)))
