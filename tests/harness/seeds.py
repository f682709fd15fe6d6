"""Reading the seed of a first boot as a guest does that knows Joliet."""

import io

from pycdlib import PyCdlib


def files_of(image: bytes) -> dict[str, bytes]:
    """What is on an image, by name; its label must be the one that cloud-init looks for."""
    iso = PyCdlib()
    iso.open_fp(io.BytesIO(image))
    assert iso.pvd.volume_identifier.decode().strip() == "cidata"
    found = {}
    for record in iso.list_children(joliet_path="/"):
        name = record.file_identifier().decode("utf-16_be")
        if record.is_file():
            out = io.BytesIO()
            iso.get_file_from_iso_fp(out, joliet_path=f"/{name}")
            found[name] = out.getvalue()
    iso.close()
    return found
