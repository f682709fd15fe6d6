"""The site: built strictly, complete without a network, its drawings shown, what the pages refer to on it."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import Abort
from mkdocs.structure.files import Files
from pymdownx.superfences import SuperFencesException

from docs.reasons import ROOT
from docsite import drawings, hooks


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` makes, in a folder of its own. Not --quiet, which takes away the warnings that are counted."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {"PYTHONPATH": str(ROOT / "hack"), "PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages(site: Path) -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(site)), path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    ]


def test_every_page_is_on_the_site(site: Path):
    built = {name for name, _ in pages(site)}
    sources = [path.relative_to(drawings.DOCS) for path in drawings.DOCS.rglob("*.md")]
    assert {str(source.with_suffix(".html")) for source in sources} <= built
    assert {"contributing.html", "chart.html", "manifests/examples/index.html"} <= built


def test_nothing_is_loaded_from_elsewhere(site: Path):
    """Scripts, styles, fonts, images; links that a person follows are no matter."""
    loaded = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    assert [f"{name}: {match}" for name, text in pages(site) for match in loaded.findall(text)] == []
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert [text for text in styles if re.search(r"url\([\"']?(?:https?:)?//", text)] == []


def test_drawings_are_shown_as_they_are_and_need_no_script(site: Path):
    text = (site / "concepts.html").read_text(encoding="utf-8")
    source = (drawings.DOCS / "concepts.md").read_text(encoding="utf-8")
    assert text.count('<div class="drawing"><svg ') == source.count("```mermaid") > 3
    assert [name for name, page in pages(site) if 'class="mermaid"' in page] == []


def test_each_drawing_is_that_of_its_source_and_none_is_left_over():
    """Drawn anew with `make drawings`."""
    wanted = {drawings.file_of(source) for source in drawings.sources()}
    assert wanted == set(drawings.FOLDER.glob("*.svg"))


def test_a_link_to_what_the_site_does_not_have_becomes_text_and_one_to_nothing_stays_to_be_found():
    page: Any = SimpleNamespace(file=SimpleNamespace(src_uri="reference/cli.md"))
    text = "[the lock](../../requirements/dev.txt), [nothing](../../missing.md), [VMs](../vm.md#disks)"
    moved = hooks.on_page_markdown(text, page, MkDocsConfig(), Files([]))
    assert moved == "the lock, [nothing](../../missing.md), [VMs](../vm.md#disks)"


def test_a_link_into_the_repository_leads_to_a_page_of_the_site(site: Path):
    text = (site / "vm.html").read_text(encoding="utf-8")
    assert 'href="manifests/examples/vm-adopt.yaml.html"' in text
    assert 'href="manifests/examples/index.html"' in text
    assert "apiVersion" in (site / "manifests/examples/vm-adopt.yaml.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("link", ["missing.md", "index.md#nowhere", "../outside.md", "/index.md"])
def test_a_broken_link_or_anchor_ends_the_build(link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A page\n\n[a link]({link})\n")
    with pytest.raises(Abort, match="Aborted with 1 warnings in strict mode"):
        build(config_of(tmp_path))


def test_a_drawing_that_was_not_made_ends_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(
        "# A page\n\n```mermaid\nflowchart LR\n  new --> drawing\n```\n"
    )
    with pytest.raises(SuperFencesException, match="run `make drawings`"):
        build(config_of(tmp_path))


def config_of(folder: Path):
    """That of the site, for other pages."""
    return load_config(
        config_file=str(ROOT / "mkdocs.yml"),
        docs_dir=str(folder / "docs"),
        site_dir=str(folder / "site"),
        nav=[{"Home": "index.md"}],
        extra_css=[],
        plugins=[],
        hooks=[],
        strict=True,
    )
