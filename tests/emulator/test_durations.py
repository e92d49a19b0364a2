from statistics import fmean, stdev

import pytest

from apixo_async.emulator.durations import SHORTEST, Durations, parse_distribution


def drawn(text: str) -> list[float]:
    """Return draws at evenly spread shares."""
    quantile = parse_distribution(text)
    return [quantile((index + 0.5) / 10_000) for index in range(10_000)]


@pytest.mark.parametrize(
    ("text", "mean", "deviation"),
    [
        pytest.param("120", 120, 0, id="fixed"),
        pytest.param("uniform:60:180", 120, 34.64, id="uniform"),
        pytest.param("normal:120:15", 120, 15, id="normal"),
        pytest.param("lognormal:120:0.3", 120, 36.8, id="lognormal"),
        pytest.param("normal:90:0", 90, 0, id="normal-without-width"),
        pytest.param("lognormal:90:0", 90, 0, id="lognormal-without-width"),
    ],
)
def test_a_distribution_has_the_mean_it_is_written_with(
    text: str, mean: float, deviation: float
) -> None:
    """Mean and spread of the draws are those that the text asks for."""
    seconds = drawn(text)

    assert fmean(seconds) == pytest.approx(mean, rel=0.01)
    assert stdev(seconds) == pytest.approx(deviation, rel=0.02, abs=1e-9)


def test_a_bell_curve_never_goes_below_five_seconds() -> None:
    """The lower tail is cut off, also at the very edge of the draw."""
    quantile = parse_distribution("normal:10:20")

    assert min(drawn("normal:10:20")) == SHORTEST == quantile(0.0)
    assert quantile(1.0) > 100


def test_a_fixed_time_may_be_shorter_than_five_seconds() -> None:
    """Only the curves are cut off: who writes 0.5 gets 0.5."""
    assert parse_distribution("0.5")(0.3) == 0.5


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gamma:1:2", "is none of"),
        ("fast", "not a number"),
        ("normal:120", "must have the form normal:MEAN:DEVIATION"),
        ("uniform:1:2:3", "must have the form uniform:LOW:HIGH"),
        ("normal:x:2", "not a number"),
        ("-5", "negative"),
        ("normal:-5:1", "negative"),
        ("uniform:1:inf", "not finite"),
        ("uniform:3:2", "lower end first"),
        ("lognormal:0:1", "mean above 0"),
        ("", "not a number"),
    ],
)
def test_a_wrong_distribution_is_explained(text: str, problem: str) -> None:
    """The message shows the text and what would have been right."""
    with pytest.raises(ValueError, match=problem):
        parse_distribution(text)


def test_each_mode_can_have_its_own_distribution() -> None:
    """A mode without one, and a request without a mode, take the default's."""
    durations = Durations.parse("fast=75, quality=uniform:150:150,default=10")

    assert durations.draw("fast", 0.5) == 75
    assert durations.draw("quality", 0.5) == 150
    assert durations.draw("other", 0.5) == durations.draw(None, 0.5) == 10


def test_modes_without_a_default_fall_back_on_two_minutes() -> None:
    """Naming one mode leaves the others at the documented average."""
    assert Durations.parse("fast=75").draw("quality", 0.5) == pytest.approx(120)


def test_durations_are_whole_milliseconds() -> None:
    """What is drawn can be told in the API's unit without loss."""
    seconds = Durations.parse("normal:120:20").draw("fast", 0.123456789)

    assert round(seconds * 1000) / 1000 == seconds


@pytest.mark.parametrize("text", ["fast=75,120", "=75", "fast=75,quality"])
def test_a_wrong_list_of_modes_is_explained(text: str) -> None:
    """A part that is not MODE=DISTRIBUTION is shown with the form it must have."""
    with pytest.raises(ValueError, match="MODE=DISTRIBUTION"):
        Durations.parse(text)
