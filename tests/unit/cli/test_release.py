"""Letting go of objects where a CRD is gone already, and where others write meanwhile."""

from typing import Any

from proxmox_operator.api.names import FINALIZER
from proxmox_operator.cli.release import let_go
from proxmox_operator.kube.client import Call, Kube
from proxmox_operator.kube.errors import Conflict, NotFound


class Api:
    """Two kinds of three; the first writes are refused, as somebody else was faster."""

    def __init__(self, conflicts: int = 0) -> None:
        self.conflicts = conflicts
        self.patched: list[tuple[str, list[str]]] = []

    async def send(self, call: Call) -> dict[str, Any]:
        if call.resource.plural == "vmtemplates":
            raise NotFound(str(call))
        metadata = {"name": "one", "uid": "u", "resourceVersion": "1", "finalizers": ["a/b", FINALIZER]}
        if call.resource.namespaced:
            metadata["namespace"] = "web"
        raw = {"kind": call.resource.kind, "metadata": metadata}
        if call.verb == "list":
            return {"items": [raw], "metadata": {"resourceVersion": "1"}}
        if call.verb == "patch":
            if self.conflicts:
                self.conflicts -= 1
                raise Conflict(str(call))
            assert call.body is not None
            self.patched.append((call.resource.plural, call.body["metadata"]["finalizers"]))
        return raw


async def test_a_kind_whose_crd_is_gone_keeps_no_other_from_being_let_go(capsys):
    api = Api()
    await let_go(Kube(api), dry=False)
    assert api.patched == [("proxmoxvms", ["a/b"]), ("proxmoxclusters", ["a/b"])]
    assert "2 objects were let go" in capsys.readouterr().out


async def test_an_object_that_is_just_being_written_is_read_again():
    api = Api(conflicts=3)
    await let_go(Kube(api), dry=False)
    assert api.patched == [("proxmoxvms", ["a/b"]), ("proxmoxclusters", ["a/b"])]


async def test_a_dry_run_writes_nothing(capsys):
    api = Api()
    await let_go(Kube(api), dry=True)
    assert api.patched == []
    assert "2 objects would be let go" in capsys.readouterr().out
