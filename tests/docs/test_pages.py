"""What docs/ says about the code is so: parts that are made from it, reasons it can show, links that lead somewhere."""

import re
from collections.abc import Iterator

import pytest
import yaml

import doctables
from docs.reasons import ROOT, reasons
from doctables.markdown import plain
from doctables.privileges import privileges
from doctables.reference import CRDS
from doctables.settings import settings
from proxmox_operator.engine.settings import Settings

OF_TEMPLATES = ("planning/templates/", "controllers/template/", "web/")

NEVER_SHOWN = {
    "NodeUnsuitable",  # a default that every refusal replaces
    "NotConverging",  # says itself that it is a bug
    "BaseInUse",  # asked for, and shown as InUse
}


@pytest.mark.parametrize("page", doctables.pages(), ids=lambda page: str(page.relative_to(doctables.DOCS)))
def test_what_is_made_from_the_code_is_up_to_date(page):
    """Written anew with `make docs-tables`."""
    text = page.read_text(encoding="utf-8")
    assert doctables.written(text) == text


def test_each_part_that_is_made_from_the_code_is_on_a_page_once():
    texts = [page.read_text(encoding="utf-8") for page in doctables.pages()]
    places = [place["name"] for text in texts for place in doctables.PLACE.finditer(text)]
    assert sorted(places) == sorted(doctables.PARTS)


def test_an_old_table_is_replaced_and_what_is_around_it_stays():
    begin = "<!-- settings: made by `make docs-tables`, checked by a test -->\n"
    written = doctables.written(f"before\n\n{begin}old\n<!-- /settings -->\n\nafter\n")
    assert written == f"before\n\n{begin}{settings()}<!-- /settings -->\n\nafter\n"


def test_the_reference_has_a_section_for_each_object_and_a_row_for_each_field():
    for crd in CRDS.glob("*.yaml"):
        page = (doctables.DOCS / "reference" / f"{crd.stem.removesuffix('s')}.md").read_text(encoding="utf-8")
        definition = yaml.safe_load(crd.read_text(encoding="utf-8"))["spec"]
        schema = definition["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        wanted = {**objects("spec", schema["spec"]), **objects("status", schema["status"])}
        assert len(wanted) > 8
        sections = re.findall(r"^##+ (\S+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
        found = {path: re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for path, text in sections}
        assert {path: found.get(path) for path in wanted} == wanted


def objects(path: str, schema: dict) -> dict[str, list[str]]:
    """Field names of each object, by path."""
    found = {path: list(schema["properties"])}
    for name, field in schema["properties"].items():
        for suffix, inner in (("", field), ("[]", field.get("items", {}))):
            if "properties" in inner:
                found |= objects(f"{path}.{name}{suffix}", inner)
    return found


def test_the_rules_of_the_api_are_in_the_reference_in_their_own_words():
    for crd in CRDS.glob("*.yaml"):
        page = (doctables.DOCS / "reference" / f"{crd.stem.removesuffix('s')}.md").read_text(encoding="utf-8")
        definition = yaml.safe_load(crd.read_text(encoding="utf-8"))["spec"]
        rules = list(messages(definition["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]))
        assert len(rules) > 20
        assert [rule for rule in rules if plain(rule) not in page] == []


def messages(schema) -> Iterator[str]:
    """What the API server says to a spec that breaks a rule, from all levels of a schema."""
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
        schema = list(schema.values())
    if isinstance(schema, list):
        for inner in schema:
            yield from messages(inner)


def test_each_setting_has_its_line():
    page = (doctables.DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"`--{name.replace('_', '-')}`" not in page] == []
    assert "| `PROXMOX_OPERATOR_LEASE_DURATION` | `60s` |" in page
    assert "| `PROXMOX_OPERATOR_NAMESPACE` | that of its pod, else proxmox-operator-system |" in page


def test_the_guest_agent_needs_other_privileges_in_proxmox_ve_9_than_in_8():
    assert (
        "| asking the guest agent | `/vms` | `VM.GuestAgent.Audit` or `VM.GuestAgent.Unrestricted` | `VM.Monitor` |"
        in privileges()
    )
    assert "| `/nodes` | `Sys.Audit` | the same |" in privileges()


def test_the_page_of_templates_names_each_reason_and_event_that_a_template_can_show():
    page = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")
    shown = {
        name for name, files in reasons().items() if any(file.startswith(OF_TEMPLATES) for file in files)
    }
    shown -= NEVER_SHOWN
    assert {"ImageNotFound", "SourceRunning", "StorageNotChosen", "Making", "CopyDropped"} <= shown
    assert sorted(name for name in shown if f"`{name}`" not in page) == []


def test_links_between_the_pages_lead_somewhere():
    """As they are read in the repository; the site has its own (test_site)."""
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
