"""Twenty thousand seeds of the simulator: not one breaks a promise."""

from __future__ import annotations

import os

import pytest

from aiecs_ray.testing.simulate import simulate_many

SEEDS = 20_000

pytestmark = [pytest.mark.accept, pytest.mark.timeout(1800)]


def test_no_promise_is_broken_in_twenty_thousand_seeds() -> None:
    reports = simulate_many(0, SEEDS, processes=min(2, os.cpu_count() or 1), stop=20)

    broken = {report.seed: report.violations for report in reports if not report.ok}

    assert broken == {}
