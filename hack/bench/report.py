"""One table: each figure beside its budget."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What was measured; ``holds`` is None where there is no budget."""

    phase: str
    name: str
    measured: str
    budget: str = ""
    holds: bool | None = None


def told(phase: str, name: str, measured: str) -> Figure:
    """A figure without a budget."""
    return Figure(phase=phase, name=name, measured=measured)


def at_most(phase: str, name: str, measured: float, budget: float) -> Figure:
    """A figure that must not be larger than its budget."""
    return Figure(
        phase=phase, name=name, measured=_show(measured), budget=f"<= {budget:g}", holds=measured <= budget
    )


def at_least(phase: str, name: str, measured: float, budget: float) -> Figure:
    """A figure that must not be smaller than its budget."""
    return Figure(
        phase=phase, name=name, measured=_show(measured), budget=f">= {budget:g}", holds=measured >= budget
    )


def render(console: Console, title: str, figures: Iterable[Figure]) -> None:
    """Print the table."""
    table = Table(title=title, title_justify="left")
    for column in ("phase", "figure", "measured", "budget", ""):
        table.add_column(column, justify="right" if column in ("measured", "budget") else "left")
    last = ""
    for figure in figures:
        if last not in ("", figure.phase):
            table.add_section()
        verdict = {None: "", True: "[green]ok[/]", False: "[bold red]MISSED[/]"}[figure.holds]
        table.add_row(
            figure.phase if figure.phase != last else "", figure.name, figure.measured, figure.budget, verdict
        )
        last = figure.phase
    console.print(table)


def _show(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.1f}"
