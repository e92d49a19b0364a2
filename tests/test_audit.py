"""Dependencies are held to the advisories that are known, by tools/audit.py."""

from __future__ import annotations

import importlib.util
import tomllib
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
KNOWN: dict[str, Any] = tomllib.loads(
    (ROOT / "tools" / "advisories.toml").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / "tools" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def project(*core: str, **extras: list[str]) -> dict[str, Any]:
    """The part of a pyproject.toml that is read."""
    return {"dependencies": list(core), "optional-dependencies": extras}


def known(package: str, affected: str, *reviewed: str) -> dict[str, Any]:
    """One advisory, and who was looked at."""
    advisory = {"package": package, "affected": affected, "ids": ["CVE-1"], "for_us": "harm"}
    return {"advisory": [advisory], "reviewed": dict.fromkeys(reviewed, date(2026, 1, 1))}


def test_nothing_that_is_allowed_has_an_advisory(audit: ModuleType) -> None:
    """Neither our lower bounds nor what is installed here; every package was looked at."""
    assert audit.faults(PROJECT["project"], KNOWN) == []


@pytest.mark.parametrize("extra", [False, True], ids=["core", "extra"])
def test_a_bound_below_the_mended_version_is_named(audit: ModuleType, extra: bool) -> None:
    """Although what is installed is not affected."""
    needed = project(cli=["attrs>=1.0"]) if extra else project("attrs>=1.0")

    found = audit.faults(needed, known("attrs", "<1.1", "attrs"))

    assert found == ["pyproject.toml allows attrs 1.0 is affected by CVE-1 (<1.1)"]


def test_an_installed_version_is_named(audit: ModuleType) -> None:
    """Also one that only comes along with what we ask for."""
    reviewed = audit.installed(audit.requirements(project("aiohttp>=3.14.4")))

    (found,) = audit.faults(project("aiohttp>=3.14.4"), known("MultiDict", ">=6.3,<999", *reviewed))

    assert found.startswith("installed: multidict ")
    assert {"aiohttp", "yarl", "idna", "multidict", "typing-extensions"} <= reviewed.keys()


def test_a_package_that_nobody_looked_at_is_named(audit: ModuleType) -> None:
    """What comes along with a new version of a dependency does not get in unseen."""
    (found,) = audit.faults(project("cattrs>=25.1"), known("x", "<1", "cattrs", "attrs"))

    assert found.startswith("typing-extensions ")
    assert "nobody has looked at it" in found


def test_every_advisory_says_what_it_is_and_means() -> None:
    """An id to look it up by, a range, a sentence on us, and a package that comes along."""
    for one in KNOWN["advisory"]:
        assert one.keys() == {"package", "affected", "ids", "for_us"}
        assert one["package"] in KNOWN["reviewed"]
        assert one["affected"]
        assert one["for_us"].endswith(".")
        assert all(name.startswith(("CVE-", "GHSA-", "PYSEC-")) for name in one["ids"])
        assert one["ids"]


def test_the_table_of_bounds_is_that_of_the_project(audit: ModuleType) -> None:
    """SECURITY.md has a row for every dependency, with the version that is allowed."""
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    floors = audit.floors(audit.requirements(PROJECT["project"]))
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")][1:]

    told = {cells[1].split()[0]: cells[2].strip() for cells in rows}

    assert told == {name: str(version) for name, version in floors.items()}
