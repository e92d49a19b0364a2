from statistics import fmean

import pytest

from apixo_async.emulator.draws import fingerprint, identifier, pick, unit


def test_a_draw_repeats() -> None:
    """The same subject gives the same number, in this process and in any other."""
    assert unit(7, "submit_429", "abc", 0) == pytest.approx(0.8066462686826231)


def test_draws_are_spread_evenly() -> None:
    """Numbers lie in [0, 1), with a mean of a half and a tenth of them in each tenth."""
    numbers = [unit(index) for index in range(10_000)]

    tenths = [sum(int(number * 10) == tenth for number in numbers) for tenth in range(10)]

    assert 0 <= min(numbers) < max(numbers) < 1
    assert fmean(numbers) == pytest.approx(0.5, abs=0.01)
    assert all(900 < count < 1_100 for count in tenths)


@pytest.mark.parametrize("other", [(8, "a", 0), (7, "b", 0), (7, "a", 1)])
def test_every_part_of_the_subject_counts(other: tuple[int, str, int]) -> None:
    """Another seed, another name or another attempt is another draw."""
    assert unit(*other) != unit(7, "a", 0)


def test_pick_reaches_every_index_and_no_other() -> None:
    """Each of the choices comes up, and nothing beyond them."""
    assert {pick(5, index) for index in range(200)} == set(range(5))


def test_identifiers_look_like_real_ones() -> None:
    """A task id has 32 lowercase hexadecimal digits."""
    text = identifier(7, "a", 0)

    assert len(text) == 32
    assert set(text) <= set("0123456789abcdef")


def test_a_fingerprint_does_not_depend_on_the_order_of_fields() -> None:
    """Two inputs that say the same are the same video."""
    assert fingerprint("veo-3-1", {"a": 1, "b": 2}) == fingerprint("veo-3-1", {"b": 2, "a": 1})


@pytest.mark.parametrize(("model", "given"), [("sora-2", {"a": 1}), ("veo-3-1", {"a": 2})])
def test_a_fingerprint_depends_on_model_and_input(model: str, given: dict[str, int]) -> None:
    """Another model or another input is another video."""
    assert fingerprint(model, given) != fingerprint("veo-3-1", {"a": 1})
