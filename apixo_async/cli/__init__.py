"""The command line `apixo`; see docs/cli.md."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final, NoReturn

_NEEDS: Final = ("click", "rich")


def main() -> NoReturn:
    """Runs `apixo` with the arguments of this process and exits with its code."""
    if any(find_spec(name) is None for name in _NEEDS):
        sys.stderr.write('error: the command line is an extra: pip install "apixo-async[cli]"\n')
        sys.exit(2)
    try:
        from apixo_async.cli.app import apixo

        apixo(prog_name="apixo")
    except KeyboardInterrupt:  # before any command had begun
        sys.exit(130)
    sys.exit(0)
