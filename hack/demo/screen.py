"""What the viewer sees: explanations, commands, a table that moves on a terminal and lines where it cannot.

Not here: what happens (`acts`).
"""

import textwrap
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from demo.kube import Object, is_ready, ready
from demo.processes import StageError

LOOK_SECONDS = 0.2
PLAIN_WIDTH = 110


class Row(NamedTuple):
    """One VM as `kubectl get pvm` shows it."""

    name: str
    ready: bool
    stalled: bool
    reason: str
    power: str
    node: str
    vmid: str
    address: str

    @classmethod
    def of(cls, raw: Object) -> "Row":
        status = raw.get("status") or {}
        stalled = [each["status"] for each in status.get("conditions", []) if each["type"] == "Stalled"]
        leaving = "deletionTimestamp" in raw["metadata"]
        return cls(
            name=raw["metadata"]["name"],
            ready=is_ready(raw) and not leaving,
            stalled=stalled == ["True"],
            reason=ready(raw).get("reason", "not seen yet"),
            power=status.get("power", ""),
            node=status.get("node", ""),
            vmid=str(status.get("vmid", "")),
            address=next(iter(status.get("addresses", [])), ""),
        )


class Screen:
    """Prints for a terminal, or plain lines where there is none."""

    def __init__(self) -> None:
        terminal = Console()
        self._console = terminal if terminal.is_terminal else Console(width=PLAIN_WIDTH)
        self._act = 0

    def act(self, title: str, explanation: str) -> None:
        """A new act: its title, and what the viewer should know before it begins."""
        self._act += 1
        self._console.print(f"\n[bold cyan]{self._act}. {escape(title)}[/]", highlight=False)
        self.say(explanation)

    def say(self, text: str) -> None:
        self._write(text)

    def command(self, line: str) -> None:
        """What a person would type."""
        self._write(line, lead="[dim]$[/] ", style="bold")

    def done(self, text: str) -> None:
        self._write(text, lead="[green]✔[/] ")

    def quote(self, text: str) -> None:
        """Somebody's own words."""
        self._write(text, indent=5, style="yellow")

    def raw(self, text: str) -> None:
        """A line to be copied, or already laid out: never wrapped."""
        self._console.print(f"   {escape(text)}", highlight=False, soft_wrap=True)

    def failure(self, text: str, notes: Iterable[str]) -> None:
        self._console.print("\n[bold red]It did not come about.[/]", highlight=False)
        for line in (*text.splitlines(), *notes):
            self.raw(line)

    def table(self, title: str, rows: Iterable[tuple[str, str, str]]) -> None:
        """What was shown, how it came out, how long it took."""
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self._console.print(f"\n[bold cyan]{escape(title)}[/]", highlight=False)
        self._console.print(Padding(table, (0, 0, 0, 3), expand=False))

    def _write(self, text: str, *, lead: str = "", indent: int = 3, style: str = "") -> None:
        width = self._console.width - indent - 2
        for number, line in enumerate(textwrap.wrap(text, width, break_on_hyphens=False)):
            marked = f"[{style}]{escape(line)}[/]" if style else escape(line)
            self._console.print(
                " " * indent + (lead if number == 0 else "") + marked, highlight=False, soft_wrap=True
            )

    def watch(
        self, look: Callable[[], list[Object]], until: Callable[[list[Object]], bool], *, seconds: float
    ) -> float:
        """Show the VMs that `look` finds as they change, until it is so; the seconds it took. Raises StageError."""
        started = time.monotonic()
        if self._console.is_terminal:
            with Live(console=self._console, auto_refresh=False, transient=False) as live:
                return self._follow(
                    look,
                    until,
                    started,
                    seconds,
                    lambda rows: live.update(_live_table(rows, started), refresh=True),
                )
        known: dict[str, Row] = {}
        return self._follow(
            look, until, started, seconds, lambda rows: self._tell_changes(rows, known, started)
        )

    @staticmethod
    def _follow(
        look: Callable[[], list[Object]],
        until: Callable[[list[Object]], bool],
        started: float,
        seconds: float,
        show: Callable[[list[Row]], None],
    ) -> float:
        while True:
            objects = look()
            show([Row.of(raw) for raw in objects])
            if until(objects):
                return time.monotonic() - started
            if time.monotonic() - started > seconds:
                late = [
                    f"{row.name}: {row.reason}: {ready(raw).get('message', '')}"
                    for raw in objects
                    if not (row := Row.of(raw)).ready
                ]
                raise StageError(
                    "\n".join([f"Expected within {seconds:.0f} s: every VM as it should be. Not so:", *late])
                )
            time.sleep(LOOK_SECONDS)

    def _tell_changes(self, rows: list[Row], known: dict[str, Row], started: float) -> None:
        for row in rows:
            if known.get(row.name) != row:
                known[row.name] = row
                where = f"VM {row.vmid} on {row.node}" if row.vmid else ""
                word = "Ready" if row.ready else "     "
                elapsed = f"{time.monotonic() - started:5.1f} s"
                self.raw(f"{elapsed}  {row.name:13} {word}  {row.reason:18} {where} {row.address}".rstrip())


def _live_table(rows: list[Row], started: float) -> Padding:
    elapsed = f"{time.monotonic() - started:.0f} s"
    table = Table(box=None, pad_edge=False, caption=elapsed, caption_justify="left")
    for column in ("NAME", "READY", "REASON", "POWER", "NODE", "VMID", "IP"):
        table.add_column(column, header_style="dim", no_wrap=True, min_width=7)
    for row in rows:
        style = "green" if row.ready else "red" if row.stalled else "yellow"
        mark = "True" if row.ready else "False"
        table.add_row(
            row.name,
            f"[{style}]{mark}[/]",
            f"[{style}]{row.reason}[/]",
            row.power,
            row.node,
            row.vmid,
            row.address,
        )
    return Padding(table, (1, 0, 0, 3), expand=False)
