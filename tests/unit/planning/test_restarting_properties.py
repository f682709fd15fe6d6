"""Whatever people do, and whatever the guest and Proxmox refuse: restarts come to an end."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.api import ProxmoxVM, Restart
from proxmox_operator.api.names import RESTART
from proxmox_operator.planning.lifecycle import NoteRestart, Present, Settled, Start, Stop, plan, restarting
from proxmox_operator.planning.vmconfig import PendingChange
from unit.planning.make import NOW, a_vm, facts, made, present

CHANGES = tuple(
    PendingChange(key=key, was="1", becomes="2", field=field_)
    for key, field_ in (("cores", "spec.cpu.cores"), ("memory", "spec.memory.size"), ("vga", None))
)


@dataclass
class VM:
    """A ProxmoxVM, its VM, and what an operator makes of them."""

    vm: ProxmoxVM
    power: str = "Running"
    pending: tuple[PendingChange, ...] = ()
    obeys: bool = True
    applies: bool = True
    stop_failed: str | None = None
    stops: int = 0
    steps: list[str] = field(default_factory=list)

    def change(self, **parts: Any) -> None:
        """Change the object: ``spec``, ``status`` or ``metadata`` by their fields."""
        copies = {part: getattr(self.vm, part).model_copy(update=changes) for part, changes in parts.items()}
        self.vm = self.vm.model_copy(update=copies)

    def seen(self) -> Present:
        waits = self.pending if self.power == "Running" else ()
        due = restarting.due(self.vm, self.power, waits, NOW)  # type: ignore[arg-type]
        return present(power=self.power, pending=waits, restart=due)

    def settle(self) -> int:
        """Plan and do until nothing is to be done; returns how often it was shut down to be started again."""
        before = self.stops
        for _ in range(30):
            existence = self.seen()
            step = plan(facts(self.vm, existence=existence, stop_failed=self.stop_failed))
            self.steps.append(type(step).__name__)
            match step:
                case Stop(restart=due):
                    self._shut_down(due.cause if due is not None else None)
                case NoteRestart(restart=restart, restarted_for=value):
                    self.stop_failed = None
                    self.change(status={"restart": restart, "restarted_for": value})
                case Start():
                    self.power = "Running"
                    self.pending = () if self.applies else self.pending
                case _:
                    assert isinstance(step, Settled)
                    restart, value = restarting.recorded(self.vm, existence)
                    self.change(status={"restart": restart, "restarted_for": value})
                    restarting.outlook(facts(self.vm, existence=existence))
                    return self.stops - before
        raise AssertionError(f"it does not come to rest: {self.steps}")

    def _shut_down(self, cause: str | None) -> None:
        if cause is not None:
            self.stops += 1
            self.change(status={"restart": Restart(cause=cause, phase="Stopping", since=NOW)})
        if self.obeys or self.vm.spec.shutdown.force:
            self.power = "Stopped"
        else:
            self.stop_failed = "it does not obey"


DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("token"), st.sampled_from((None, "", "1", "2", "x" * 100))),
        st.tuples(st.just("pending"), st.lists(st.sampled_from(CHANGES), unique=True).map(tuple)),
        st.tuples(st.just("power"), st.sampled_from(("Running", "Stopped"))),
        st.tuples(st.just("wanted"), st.sampled_from(("Running", "Stopped", "Unmanaged"))),
        st.tuples(st.just("force"), st.booleans()),
        st.tuples(st.just("obeys"), st.booleans()),
        st.tuples(st.just("applies"), st.booleans()),
        st.tuples(st.just("automatic"), st.booleans()),
    ),
    max_size=12,
)


@given(DEEDS)
@settings(deadline=None, max_examples=100)
def test_each_deed_leads_to_two_restarts_at_most_and_doing_nothing_to_none(deeds):
    """Two: one that the annotation asks for, and one for changes that were kept from it until then."""
    world = VM(a_vm(status=made(), cpu={"cores": 2}, memory={"size": "1Gi"}))
    for what, value in deeds:
        match what:
            case "token":
                world.change(metadata={"annotations": {} if value is None else {RESTART: value}})
            case "wanted":
                world.change(spec={"power": value})
            case "force":
                world.change(spec={"shutdown": world.vm.spec.shutdown.model_copy(update={"force": value})})
            case "automatic":
                updates = world.vm.spec.updates.model_copy(
                    update={"restart": "Automatic" if value else "Never"}
                )
                world.change(spec={"updates": updates})
            case _:
                setattr(world, what, value)
        if world.vm.spec.wanted_power == "Stopped" and not world.obeys and not world.vm.spec.shutdown.force:
            continue  # it cannot be stopped at all, which has nothing to do with restarts
        assert world.settle() <= 2
        assert world.settle() == 0
        assert restarting.under_way(world.vm) is None
        assert world.power == world.vm.spec.wanted_power or world.vm.spec.wanted_power == "Unmanaged"
