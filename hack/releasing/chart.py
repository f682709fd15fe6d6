"""The chart as it is published: its values name the image that it was made with. Not here: what Helm does with it."""

import re
import shutil
from pathlib import Path


def publish(chart: Path, folder: Path, *, registry: str, repository: str, digest: str) -> Path:
    """A copy of the chart in ``folder`` whose default image is this one. Raises ValueError where values lack one."""
    copy = folder / chart.name
    shutil.copytree(chart, copy)
    values = copy / "values.yaml"
    image = {"registry": registry, "repository": repository, "digest": digest}
    values.write_text(filled(values.read_text(encoding="utf-8"), image), encoding="utf-8")
    return copy


def filled(values: str, image: dict[str, str]) -> str:
    """The text of values.yaml, comments and all, with these fields of ``image``."""
    head, found, rest = values.partition("\nimage:\n")
    if not found:
        raise ValueError("values.yaml has no image")
    for name, value in image.items():
        rest, count = re.subn(rf"^  {name}: .*$", f"  {name}: {value}", rest, count=1, flags=re.M)
        if not count:
            raise ValueError(f"values.yaml has no image.{name}")
    return head + found + rest
