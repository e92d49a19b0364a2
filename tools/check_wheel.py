"""Check what users get: the files in the wheel, its metadata, and that it works on its own.

Called with the directory of the virtual environment whose dist/ holds the wheel. What was found
good is not looked at again until the wheel changes.
"""

import email
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path, PurePosixPath

PACKAGE = "apixo_async"
CORE_DEPENDENCIES = {"aiohttp", "aiolimiter", "attrs", "cattrs"}
# In the wheel whatever the checkout holds: a file lost from both would otherwise go unnoticed.
PROMISED_FILES = (
    *("__init__.py", "py.typed", "cli/__init__.py", "emulator/videos/*.mp4"),
    *(f"batch/report/templates/page.{suffix}" for suffix in ("html", "css", "js")),
)
# The sdist must be enough to test and to package from.
SDIST_FILES = (
    *("LICENSE", "Makefile", "README.md", "SECURITY.md", "pyproject.toml"),
    *("tests/*", "tools/*"),
)

# Walks all modules that need no extra and reads every public name.
IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import apixo_async

for name in apixo_async.__all__:
    getattr(apixo_async, name)
need_extras = (
    "apixo_async.batch.report",
    "apixo_async.cli",
    "apixo_async.testing",
    "apixo_async.integrations",
)

def without_extra(name):
    # Packages that need an extra are imported to be walked through.
    assert name.startswith(need_extras), name

for module in pkgutil.walk_packages(apixo_async.__path__, "apixo_async.", without_extra):
    if not module.name.startswith(need_extras) and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(apixo_async.__file__)
"""


class Findings:
    """What is wrong, collected so that one run tells all."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def expect(self, condition: object, fault: str) -> None:
        """Note the fault unless the condition holds."""
        if not condition:
            self.faults.append(fault)


def main(environment: Path) -> None:
    """Run all checks and end with a list of what is wrong, if anything is."""
    (wheel,) = (environment / "dist").glob("*.whl")
    stamp = environment / ".stamps" / "wheel-checked"
    newest_input = max(wheel.stat().st_mtime, Path(__file__).stat().st_mtime)
    if stamp.exists() and stamp.stat().st_mtime > newest_input:
        print("wheel: unchanged since it was found good")
        return

    findings = Findings()
    with tempfile.TemporaryDirectory() as scratch:
        check_files(wheel, findings)
        check_metadata(wheel, findings)
        check_sdist(wheel, Path(scratch), findings)
        check_alone(wheel, Path(scratch), findings)
    if findings.faults:
        raise SystemExit("\n".join(f"wheel: {fault}" for fault in findings.faults))
    stamp.touch()
    print(f"wheel: {wheel.name} is complete and works")


def package_files() -> set[str]:
    """Return the files of the package in the checkout."""
    return {
        path.as_posix()
        for path in Path(PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def check_files(wheel: Path, findings: Findings) -> None:
    """The wheel holds the package, all of it, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    findings.expect(not package_files() - names, f"lacks {sorted(package_files() - names)}")
    findings.expect(not names - package_files(), f"has foreign {sorted(names - package_files())}")
    for pattern in PROMISED_FILES:
        found = any(PurePosixPath(name).match(f"{PACKAGE}/{pattern}") for name in names)
        findings.expect(found, f"has no {PACKAGE}/{pattern}")


def check_metadata(wheel: Path, findings: Findings) -> None:
    """Name, version, license, dependencies and entry points are the promised ones."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        info = {
            PurePosixPath(name).name: archive.read(name).decode()
            for name in archive.namelist()
            if ".dist-info/" in name
        }
    metadata = email.message_from_string(info["METADATA"])
    for field, expected in {
        "Name": "apixo-async",
        "Version": project["version"],
        "Requires-Python": ">=3.11",
        "License-Expression": "MIT",
        "License-File": "LICENSE",
        "Description-Content-Type": "text/markdown",
    }.items():
        findings.expect(metadata[field] == expected, f"{field} is {metadata[field]!r}")

    always = {
        requirement.split(">")[0].strip()
        for requirement in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in requirement
    }
    findings.expect(always == CORE_DEPENDENCIES, f"always needs {sorted(always)}")
    extras = set(metadata.get_all("Provides-Extra", []))
    findings.expect(extras == set(project["optional-dependencies"]), f"has extras {sorted(extras)}")
    findings.expect("The apixo-async authors" in info["LICENSE"], "has the wrong LICENSE")
    for entry in ("apixo = apixo_async.cli:main", "[pytest11]\napixo = apixo_async.testing"):
        findings.expect(entry in info["entry_points.txt"], f"has no entry point {entry!r}")


def check_sdist(wheel: Path, scratch: Path, findings: Findings) -> None:
    """The sdist is complete: the wheel built from it is the same, byte for byte."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(scratch), ".")
    (rebuilt,) = scratch.glob("*.whl")
    findings.expect(
        rebuilt.read_bytes() == wheel.read_bytes(), "is another than the one built from the sdist"
    )
    (sdist,) = scratch.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [PurePosixPath(*PurePosixPath(name).parts[1:]) for name in archive.getnames()]
    for pattern in SDIST_FILES:
        findings.expect(any(name.match(pattern) for name in names), f"sdist has no {pattern}")


def check_alone(wheel: Path, scratch: Path, findings: Findings) -> None:
    """In an empty environment the package imports without extras, and `apixo` runs with its own."""
    venv.create(scratch / "alone", with_pip=False)
    python = scratch / "alone" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", str(python), "-qq", "install")
    try:
        run(*pip, str(wheel))
        output = run(str(python), "-I", "-W", "error", "-c", IMPORT_EVERYTHING)
        findings.expect(str(scratch) in output, f"imports from elsewhere: {output}")
        run(*pip, f"{wheel}[cli]")
        help_text = run(str(python.with_name("apixo")), "--help")
        findings.expect("Usage" in help_text, f"apixo --help says {help_text!r}")
    except subprocess.CalledProcessError as error:
        findings.expect(condition=False, fault=f"fails in an empty environment:\n{error.output}")


def run(*command: str) -> str:
    """Run a command away from the checkout's own imports and return all that it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command,
        check=True,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
