"""The bugs that ``make mutants`` plants fit the code as it is now."""

from __future__ import annotations

import re

import pytest

from tests.mutants.run import ROOT, Mutant, load

MUTANTS = load()
each_mutant = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))


def test_there_are_enough_bugs_and_each_has_a_name_of_its_own() -> None:
    names = {mutant.name for mutant in MUTANTS}

    assert len(names) == len(MUTANTS) >= 25


@each_mutant
def test_a_bug_has_one_place_and_changes_it(mutant: Mutant) -> None:
    assert mutant.occurrences() == 1
    assert mutant.new != mutant.old


@each_mutant
def test_a_bug_says_who_has_to_find_it(mutant: Mutant) -> None:
    assert bool(mutant.tests) != bool(mutant.seeds)


@each_mutant
def test_a_bug_names_tests_that_exist(mutant: Mutant) -> None:
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).exists()
        if name:
            text = (ROOT / path).read_text(encoding="utf-8")
            function, _, case = name.partition("[")
            assert re.search(rf"^(async )?def {function}\(", text, re.MULTILINE)
            if row := re.search(r"row-(\d+)-(.+)\]", case):
                assert f'@row({int(row[1])}, "{row[2]}"' in text
