"""Print a pip constraint for the lowest version that pyproject.toml allows of each dependency."""

import re
import tomllib
from pathlib import Path

LOWER_BOUND = re.compile(r"^(?P<name>[\w.-]+)(?:\[.*\])?>=(?P<version>[\w.]+)")


def lower_bounds(project: dict[str, object]) -> list[str]:
    """Return "name==version" for the core dependencies and those of all extras."""
    dependencies = project["dependencies"]
    extras = project["optional-dependencies"]
    assert isinstance(dependencies, list)
    assert isinstance(extras, dict)
    found: list[str] = []
    for requirement in [*dependencies, *(item for extra in extras.values() for item in extra)]:
        bound = LOWER_BOUND.match(requirement.replace(" ", ""))
        if bound is None:
            raise SystemExit(f"pyproject.toml: {requirement!r} has no lower bound")
        found.append(f"{bound['name']}=={bound['version']}")
    return found


if __name__ == "__main__":
    pyproject = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    print("\n".join(lower_bounds(pyproject["project"])))
