"""The cloud-init medium: the ISO with the files that cloud-init reads at boot.

Facts: generate_nocloud and commit_cloudinit_disk of PVE::QemuServer::Cloudinit: label `cidata`, the files
user-data, meta-data, network-config and vendor-data. Only this type (Linux) is built, whatever `citype` says.
"""

import io

import pycdlib

LABEL = "cidata"


def seed_iso(user: str, meta: str, network: str, vendor: str = "") -> bytes:
    """The ISO as bytes: ISO 9660 with Rock Ridge and Joliet names."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    files = {"user-data": user, "meta-data": meta, "network-config": network, "vendor-data": vendor}
    for name, text in files.items():
        data = text.encode()
        short = name.replace("-", "_").upper()
        iso.add_fp(io.BytesIO(data), len(data), f"/{short}.;1", rr_name=name, joliet_path=f"/{name}")
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()
