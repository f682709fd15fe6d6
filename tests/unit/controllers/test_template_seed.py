"""The seed of a build that cannot be deleted keeps no object."""

from unittest.mock import AsyncMock, MagicMock

import pytest

from proxmox_operator.controllers.template.build import Builder
from proxmox_operator.errors import Forbidden, NeedsHuman, Unreachable
from unit.planning.test_template_build import building


@pytest.fixture
def builder():
    observer, record, working = MagicMock(), MagicMock(change=AsyncMock()), AsyncMock()
    observer.inventory.nodes = {"pve1": None}
    session = MagicMock(files=MagicMock(delete=AsyncMock(return_value="UPID:x")))
    return Builder(MagicMock(), MagicMock(), session, observer, MagicMock(seedless=set()), record, working)


def told(builder):
    return [call.args[0] for call in builder._record.event.call_args_list]


def seed_on_record(builder):
    """What is written of the seed; the word "kept" where nothing is."""
    calls = builder._record.change.call_args_list
    return calls[-1].kwargs["build"].seed if calls else "kept"


async def test_a_seed_on_a_node_that_is_gone_is_left_without_a_call(builder):
    builder._observer.inventory.nodes = {}
    await builder.remove_seed(building())
    assert (told(builder), seed_on_record(builder)) == (["SeedLeft"], None)
    builder._session.files.delete.assert_not_awaited()


@pytest.mark.parametrize(
    "error", [Forbidden("no privilege"), NeedsHuman("no such storage", reason="StorageNotFound")]
)
async def test_a_seed_that_cannot_be_deleted_is_left_and_told(builder, error):
    builder._session.files.delete.side_effect = error
    await builder.remove_seed(building())
    assert (told(builder), seed_on_record(builder)) == (["SeedLeft"], None)


async def test_a_seed_that_cannot_be_deleted_now_stays_on_record(builder):
    builder._session.files.delete.side_effect = Unreachable("no route")
    with pytest.raises(Unreachable):
        await builder.remove_seed(building())
    assert (told(builder), seed_on_record(builder)) == ([], "kept")
