from pathlib import Path
from typing import Any

import attrs
import pytest

from apixo_async.emulator.settings import EmulatorSettings


def test_defaults_are_the_documented_limits() -> None:
    """Without any setting the emulator is as large as the page says APIXO is."""
    settings = EmulatorSettings()

    assert settings.requests_per_minute == 10_000
    assert settings.concurrent_tasks == 1_000
    assert settings.result_lifetime == 15 * 24 * 3_600
    assert (settings.prices["fast"], settings.prices["quality"]) == (0.20, 1.50)
    assert settings.api_key == "test-key"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"host": ""}, "host must be printable ASCII, not empty, not ''"),
        ({"port": 70_000}, "port must be a port, or 0 for any free one, not 70000"),
        ({"port": "80"}, "port must be"),
        ({"api_key": "clé"}, "api_key must be printable ASCII"),
        ({"speed": 0}, "speed must be a number above 0, not 0"),
        ({"speed": float("inf")}, "speed must be a number above 0, not inf"),
        ({"speed": True}, "speed must be"),
        ({"seed": 1.5}, "seed must be a whole number, not 1.5"),
        ({"durations": "normal"}, "durations: 'normal'"),
        ({"durations": "fast=x"}, "durations: 'x'"),
        ({"requests_per_minute": 0}, "requests_per_minute must be a whole number of 1 or more"),
        ({"concurrent_tasks": 2.5}, "concurrent_tasks must be a whole number of 1 or more"),
        ({"balance": -1}, "balance must be a number of 0 or more, not -1"),
        ({"prices": {"fast": 0.2}}, "prices must be amounts of 0 or more by mode, with a 'default"),
        ({"prices": {"default": -1}}, "prices must be amounts of 0 or more"),
        ({"latency": "soon"}, "latency: 'soon'"),
        ({"latency": "normal:1:1"}, "latency must be SECONDS or uniform:LOW:HIGH"),
        ({"faults": {"nothing": 1}}, "faults must be names from FAULTS"),
        ({"result_lifetime": 0}, "result_lifetime must be a number above 0"),
        ({"insufficient_as": "418"}, "insufficient_as must be one of '400', '200', '402'"),
        ({"drip_seconds": 0}, "drip_seconds must be a number above 0"),
        ({"urls_per_task": 0}, "urls_per_task must be a whole number of 1 or more"),
    ],
    ids=str,
)
def test_a_bad_setting_is_refused_by_name(wrong: dict[str, Any], problem: str) -> None:
    """The message names the field, the rule and what was given instead."""
    with pytest.raises(ValueError, match=r"must be|:") as info:
        EmulatorSettings(**wrong)

    assert str(info.value).startswith(problem)


def test_settings_are_values() -> None:
    """Equal settings are equal, a changed copy leaves the original alone, the key is not shown."""
    settings = EmulatorSettings(faults={"submit_429": 0.1}, api_key="k-123")

    changed = attrs.evolve(settings, speed=60)

    assert changed.speed == 60
    assert changed.faults == {"submit_429": 0.1}
    assert settings == EmulatorSettings(faults={"submit_429": 0.1}, api_key="k-123")
    assert "k-123" not in repr(settings)


def test_a_mapping_given_is_copied() -> None:
    """Changing a dictionary after it was handed over changes nothing."""
    rates = {"submit_429": 0.1}
    settings = EmulatorSettings(faults=rates)
    rates["submit_429"] = 1.0

    assert settings.faults == {"submit_429": 0.1}


def test_the_guide_lists_every_setting() -> None:
    """Each field has its place in the documentation's table."""
    guide = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
    table = guide.partition("## Settings")[2].partition("## What")[0]

    assert [name for name in attrs.fields_dict(EmulatorSettings) if f"`{name}`" not in table] == []
