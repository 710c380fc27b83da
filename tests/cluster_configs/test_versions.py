"""One Ray, one Python and one version of the package in all the files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.specifiers import SpecifierSet

import aiecs_ray

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FILES = sorted(file for file in (ROOT / "cluster-configs").iterdir() if file.is_file())
RAY_IMAGE = re.compile(r"rayproject/ray:(?P<ray>[0-9.]+)-py(?P<python>\d+)")
OWN_IMAGE = re.compile(r"aiecs-ray:(?P<version>[0-9][\w.]*)")


def found(pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    for file in FILES:
        yield from pattern.finditer(file.read_text(encoding="utf-8"))


def test_ray_images_and_manifests_name_one_ray_that_the_package_accepts(
    ray_range: SpecifierSet, cluster: dict[str, Any], job: dict[str, Any]
) -> None:
    images = [match["ray"] for match in found(RAY_IMAGE)]
    manifests = [cluster["spec"]["rayVersion"], job["spec"]["rayClusterSpec"]["rayVersion"]]

    assert len(images) >= 3
    assert len({*images, *manifests}) == 1
    assert ray_range.contains(images[0])


def test_ray_images_have_one_python_that_the_package_accepts(project: dict[str, Any]) -> None:
    pythons = {match["python"] for match in found(RAY_IMAGE)}

    assert len(pythons) == 1
    assert SpecifierSet(project["requires-python"]).contains(re.sub(r"^3", "3.", pythons.pop()))


def test_own_images_carry_the_version_of_the_package() -> None:
    versions = {match["version"] for match in found(OWN_IMAGE)}

    assert versions == {aiecs_ray.__version__}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_names_no_moving_tag(file: Path) -> None:
    text = file.read_text(encoding="utf-8")

    assert not re.search(r":(latest|nightly)\b", text)
