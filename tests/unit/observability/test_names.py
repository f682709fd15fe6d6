"""Our names and help texts, as Prometheus' own tool judges them."""

import pytest

from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.engine.store import ObjectStore
from unit.observability.promql import promtool

pytestmark = pytest.mark.timeout(900)  # promtool is built once, in minutes


def test_promtool_finds_nothing_to_mend():
    metrics = Metrics()
    metrics.watch_objects(ObjectStore(), ("ProxmoxVM",))
    metrics.reconciled("ProxmoxVM", "done", 0.1)
    checked = promtool("check", "metrics", stdin=metrics.render().decode())
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_name_that_breaks_the_conventions_is_noticed():
    checked = promtool("check", "metrics", stdin="# TYPE wait_milliseconds counter\nwait_milliseconds 1\n")
    assert checked.returncode != 0
    assert "wait_milliseconds" in checked.stderr
