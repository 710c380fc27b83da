"""The list of bad inputs has a case for each of its rows."""

from __future__ import annotations

from collections import Counter

from tests.contract import (
    test_bad_inputs_behaviour,
    test_bad_inputs_environment,
    test_bad_inputs_lists,
    test_bad_inputs_params,
    test_bad_inputs_processes,
    test_bad_inputs_references,
    test_bad_inputs_results,
    test_bad_inputs_specs,
    test_bad_inputs_tools,
)

PARTS = (
    test_bad_inputs_specs,
    test_bad_inputs_references,
    test_bad_inputs_params,
    test_bad_inputs_lists,
    test_bad_inputs_tools,
    test_bad_inputs_behaviour,
    test_bad_inputs_processes,
    test_bad_inputs_results,
    test_bad_inputs_environment,
)
WHOLE = set(range(1, 125)) - {122}
"""Row 122 is about HTTP requests, which are no part of this."""


def test_every_row_has_a_case() -> None:
    numbers = {row.number for part in PARTS for row in part.ROWS}

    assert numbers == WHOLE


def test_every_case_has_a_name_of_its_own() -> None:
    names = Counter(row.id for part in PARTS for row in part.ROWS)

    assert [name for name, count in names.items() if count > 1] == []
