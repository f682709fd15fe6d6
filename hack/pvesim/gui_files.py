"""Files that people put on storages: ISOs and disk images, and where their bytes are."""

from pathlib import Path

from .gui_base import GuiBase


class FileActions(GuiBase):
    """Files on storages, changed by others or looked at."""

    def put_file(self, storage: str, node: str, content: str, filename: str, source: bytes | Path) -> str:
        """Copy a file to a storage as in a shell: no check, no task. Its volume id.

        :param content: iso, vztmpl or import.
        :param source: its bytes, or a file that is copied.
        """
        name = f"{content}/{filename}"
        self.run(self.server.put_file(storage, node, name, source))
        return f"{storage}:{name}"

    def files(self, storage: str, node: str) -> dict[str, int]:
        """The files that a node sees on a storage, by name (`import/x.qcow2`), with their sizes in bytes; also the
        unfinished ones, which the content list does not show."""
        return self.call(
            lambda: {name: file.size for name, file in sorted(self.server.files_on(storage, node).items())}
        )

    def image_path(self, volid: str, node: str) -> Path | None:
        """The real file behind `local:import/x.qcow2` or `local:iso/x.iso`; None if the node sees no such volume."""
        file = self.call(lambda: self.server.file(volid, node))
        return file.path if file is not None else None

    def trust(self, ca_pem: str) -> None:
        """The nodes trust the certificates of this CA (PEM), as after update-ca-certificates on each."""
        self.call(lambda: self.server.trusted_cas.append(ca_pem))
