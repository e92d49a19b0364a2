"""Hold our dependencies to tools/advisories.toml, without asking anybody.

Checked are the lower bounds of pyproject.toml, what is installed for the interpreter that runs
this, and that somebody has looked at every package that users get with ours.
"""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ADVISORIES = Path(__file__).with_name("advisories.toml")


def requirements(project: Mapping[str, Any]) -> list[Requirement]:
    """What the package needs always, and with all of its extras."""
    extras = project["optional-dependencies"].values()
    return [Requirement(text) for texts in [project["dependencies"], *extras] for text in texts]


def floors(needed: Iterable[Requirement]) -> dict[str, Version]:
    """The lowest version of each that is allowed."""
    return {
        canonicalize_name(one.name): Version(bound.version)
        for one in needed
        for bound in one.specifier
        if bound.operator == ">="
    }


def installed(needed: Iterable[Requirement]) -> dict[str, Version]:
    """The version of each that is installed, and of all that it brings along."""
    found: dict[str, Version] = {}
    waiting = list(needed)
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        if name in found:
            continue
        distribution = metadata.distribution(name)
        found[name] = Version(distribution.version)
        waiting += [Requirement(text) for text in distribution.requires or ()]
    return found


def affected(versions: Mapping[str, Version], known: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each version that an advisory is about."""
    return [
        f"{name} {versions[name]} is affected by {', '.join(one['ids'])} ({one['affected']})"
        for one in known
        if (name := canonicalize_name(one["package"])) in versions
        and SpecifierSet(one["affected"]).contains(versions[name], prereleases=True)
    ]


def faults(project: Mapping[str, Any], advisories: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong."""
    needed = requirements(project)
    here = installed(needed)
    known = advisories["advisory"]
    lowest = affected(floors(needed), known)
    return [
        *(f"pyproject.toml allows {fault}" for fault in lowest),
        *(f"installed: {fault}" for fault in affected(here, known)),
        *(
            f"{name} {here[name]} comes along and nobody has looked at it: look for advisories, "
            f"then note the day in {ADVISORIES.name}"
            for name in sorted(here.keys() - advisories["reviewed"].keys())
        ),
    ]


def main() -> None:
    """Say what is wrong, or how much was looked at."""
    text = Path("pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    advisories = tomllib.loads(ADVISORIES.read_text(encoding="utf-8"))
    if found := faults(project, advisories):
        raise SystemExit("\n".join(f"audit: {fault}" for fault in found))
    oldest = min(advisories["reviewed"].values())
    environment = Path(sys.prefix)
    print(
        f"audit: {len(installed(requirements(project)))} packages in {environment.name}, "
        f"{len(advisories['advisory'])} advisories; last looked up {oldest}"
    )


if __name__ == "__main__":
    main()
