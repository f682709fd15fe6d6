"""`make bench` runs to its end and shows every figure beside its budget; how good they are is not a test's business."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(200)
def test_the_benchmark_takes_vms_through_their_life_and_shows_every_figure(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--vms", "3", "--idle", "1", "--lifted"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "hack"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for figure in (
        "VMs/s",
        "Proxmox calls per VM",
        "Kubernetes writes per VM",
        "Proxmox requests/s",
        "3 VMs, limits lifted",
        "started again",
        "steady after taking the Lease",
        "delete to gone",
        "highest memory of the operator",
    ):
        assert figure in done.stdout
    assert list(tmp_path.iterdir()) == []
