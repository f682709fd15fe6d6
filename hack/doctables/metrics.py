"""What Prometheus can read of the operator."""

from doctables.markdown import plain, table
from proxmox_operator.engine.metrics import Metrics


def metrics() -> str:
    """Each metric with its labels."""
    rows = [
        (
            f"`{family.name}`",
            family.type,
            ", ".join(f"`{label}`" for label in family.labels),
            plain(family.text),
        )
        for family in sorted(Metrics().families())
    ]
    return table(("metric", "type", "labels", "meaning"), rows)
