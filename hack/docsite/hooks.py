"""Hooks of MkDocs: what the pages refer to outside of docs/ becomes part of the site.

Manifests become pages, with a list for each folder; CONTRIBUTING.md and the chart's README are pages as they are. A
link to anything else in the repository is shown as text, since the site has no place for it.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "charts/proxmox-operator/README.md": "chart.md",
}
"""Pages of the repository, and what they are on the site; README.md has a page of its own there."""

SHOWN = {".lua": "lua", ".sh": "sh", ".yaml": "yaml"}
"""Endings of the files under manifests/ that are shown, and the language that they are in."""

LARGEST = 50_000
"""Characters of a manifest that is shown; larger ones are made by a program, for a program."""

_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    for source, uri in OUTSIDE.items():
        if uri not in files.src_uris and (ROOT / source).exists():
            files.append(File.generated(config, uri, content=(ROOT / source).read_text(encoding="utf-8")))
    for uri, text in _manifests():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are in the repository become links of the site."""
    here = posixpath.dirname(_repository_path(page.file.src_uri))

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link["target"]))
        uri = _site_uri(target)
        if uri is not None:
            relative = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
            return f"[{link['text']}]({relative}{link['anchor'] or ''})"
        return link["text"] if (ROOT / target).exists() else link[0]

    return _LINK.sub(moved, markdown)


def _repository_path(uri: str) -> str:
    outside = {page: source for source, page in OUTSIDE.items() if source != "README.md"}
    return outside.get(uri) or (uri if uri.startswith("manifests/") else f"docs/{uri}")


def _site_uri(path: str) -> str | None:
    """Where a file of the repository is on the site; None where it is not."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("manifests/"):
        if (ROOT / path).is_dir():
            return f"{path}/index.md"
        if _is_shown(ROOT / path):
            return f"{path}.md"
    return None


def _is_shown(path: Path) -> bool:
    return path.suffix in SHOWN and path.is_file() and path.stat().st_size <= LARGEST


def _manifests() -> Iterator[tuple[str, str]]:
    """A page for each manifest, and one for each folder, with the first sentence of each file in it."""
    for folder in filter(Path.is_dir, (ROOT / "manifests", *sorted((ROOT / "manifests").rglob("*")))):
        name = folder.relative_to(ROOT).as_posix()
        lines = [f"# {name}\n"]
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                lines.append(f"- [{path.name}]({path.name}/index.md)")
            elif _is_shown(path):
                text = path.read_text(encoding="utf-8")
                lines.append(f"- [{path.name}]({path.name}.md){_about(text)}")
                fence = f'```{SHOWN[path.suffix]} title="{name}/{path.name}"'
                yield f"{name}/{path.name}.md", f"# {path.name}\n\n{fence}\n{text}```\n"
        yield f"{name}/index.md", "\n".join(lines) + "\n"


def _about(text: str) -> str:
    """What the comment at the beginning says first."""
    comment = re.match(r"(?:#(?!!)[^\n]*\n)+", text)
    words = " ".join(line.lstrip("# ") for line in comment[0].splitlines()) if comment is not None else ""
    sentence = re.match(r".+?[.:](?= |$)", words)
    return f": {sentence[0].rstrip(':.')}" if sentence is not None else ""
