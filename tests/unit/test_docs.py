"""The tables in docs/ that are made from the code are those of the code."""

import doctables


def test_the_table_of_effects_is_that_of_the_code():
    """Written anew with `make docs-tables`."""
    assert doctables.PAGE.read_text(encoding="utf-8") == doctables.page()
    assert doctables.effects() in doctables.page()
