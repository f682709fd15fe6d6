"""The CRDs as files, and what every field and rule of them owes to its reader."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from admission.constraints import ITEM, VALUE, Constraint, Json, constraints
from proxmox_operator.api import crds

COMMITTED = Path(__file__).resolve().parents[3] / "crds"
CRDS = [yaml.safe_load(text) for text in crds.files().values()]
RULES = [constraint for crd in CRDS for constraint in constraints(crd) if constraint.keyword == "rule"]


def properties(schema: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Every property below ``schema`` with its path."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from properties(inner, f"{path}.{name}")
    for keyword, step in (("items", ITEM), ("additionalProperties", VALUE)):
        if keyword in schema:
            yield from properties(schema[keyword], path + step)


def schema(crd: Json) -> Json:
    found: Json = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


FIELDS = {
    path: field
    for crd in CRDS
    for path, field in properties(schema(crd), crd["spec"]["names"]["kind"])
    if not path.endswith(".metadata")
}
SPEC_FIELDS = {path: field for path, field in FIELDS.items() if ".spec." in path}


def test_the_committed_files_are_those_of_the_models():
    committed = {path.name: path.read_text(encoding="utf-8") for path in COMMITTED.glob("*.yaml")}
    assert committed == crds.files(), "run `make crds`"


def test_writing_them_twice_gives_the_same_files(tmp_path: Path):
    crds.write(tmp_path / "new")
    crds.write(tmp_path / "new")
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == crds.files()


def test_each_file_says_that_it_is_generated():
    assert all(text.startswith("# Generated ") for text in crds.files().values())


def test_every_field_is_described_in_a_sentence():
    sentence = re.compile(r"[A-Z].*\.")
    assert [
        path for path, field in FIELDS.items() if not sentence.fullmatch(field.get("description", ""))
    ] == []


def test_every_field_of_a_spec_says_its_default_or_that_it_is_required():
    required = {
        f"{constraint.kind}.{'.'.join(constraint.path)}.{constraint.value}".replace(f".{ITEM}", ITEM)
        for crd in CRDS
        for constraint in constraints(crd)
        if constraint.keyword == "required"
    }
    for path, field in SPEC_FIELDS.items():
        says = field["description"]
        assert says.endswith("Required.") if path in required else "Default: " in says, path


def test_the_default_that_is_described_is_the_default_that_applies():
    for path, field in SPEC_FIELDS.items():
        if isinstance(default := field.get("default"), str | int):
            shown = str(default).lower() if isinstance(default, bool) else default
            assert f"Default: {shown}." in field["description"], path


def test_every_bound_that_a_person_can_run_into_is_in_the_description():
    for path, field in SPEC_FIELDS.items():
        for bound in ("minimum", "maximum", "maxItems"):
            if bound in field:
                assert str(field[bound]) in field["description"], path


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_message_of_a_rule_names_the_field_and_what_to_do(rule: Constraint):
    message = rule.value["message"]
    steps = (*rule.path, *rule.value.get("fieldPath", "").split("."))
    named = [step for step in steps if step not in ("", ITEM, VALUE)][-2:]
    assert any(step in message for step in named)
    assert re.search(r"\b(must|remove|set|restore|swap|keep|correct|give|add)\b", message)


def test_every_text_and_list_of_a_spec_is_bounded():
    """Without bounds the API server refuses the rules for what they might cost."""
    for path, field in SPEC_FIELDS.items():
        for value in (field, field.get("items", {}), field.get("additionalProperties", {})):
            if value.get("type") == "string" and "enum" not in value:
                assert "maxLength" in value, path
        assert field["type"] != "array" or "maxItems" in field, path
        assert "additionalProperties" not in field or "maxProperties" in field, path


def test_a_status_that_nobody_has_written_is_one_of_no_generation():
    """So that who goes by kstatus does not take a new object for a done one."""
    assert [schema(crd)["properties"]["status"]["default"] for crd in CRDS] == [
        {"observedGeneration": -1}
    ] * 3


def test_nothing_of_a_status_is_bounded_or_has_a_default():
    """A status that is refused for its length would leave the object without a word."""
    for path, field in FIELDS.items():
        if ".status." in path:
            assert not field.keys() & {
                "default",
                "maxLength",
                "maxItems",
                "pattern",
                "x-kubernetes-validations",
            }
