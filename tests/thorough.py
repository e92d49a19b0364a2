"""How much is tried where there is more than a build has time for.

Usually that is a part, the same each time; with `APIXO_TEST_THOROUGH=1`, before a release, all.
"""

import os
from typing import Final

THOROUGH: Final = os.environ.get("APIXO_TEST_THOROUGH") == "1"


def every(usual: int) -> int:
    """Of so many cases one is tried, or each if it is to be thorough."""
    return 1 if THOROUGH else usual


def at_most(usual: int, thorough: int) -> int:
    """How often something is tried."""
    return thorough if THOROUGH else usual
