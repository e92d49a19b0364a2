"""Where an MP4 may end: between two of its outermost boxes, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.downloads.boxes import Boxes


def box(size: int, *, is_long: bool = False) -> bytes:
    """A box of so many bytes after its head."""
    if is_long:
        return b"\x00\x00\x00\x01mdat" + (16 + size).to_bytes(8, "big") + bytes(size)
    return (8 + size).to_bytes(4, "big") + b"free" + bytes(size)


def are_cut(*chunks: bytes) -> bool:
    """Whether a file of these chunks is cut."""
    boxes = Boxes()
    for chunk in chunks:
        boxes.add(chunk)
    return boxes.are_cut


WHOLE = box(16) + box(0) + box(300, is_long=True) + box(5)
ENDS = {0, 24, 32, 348, 361}


@pytest.mark.parametrize("end", range(len(WHOLE) + 1))
def test_a_file_is_whole_between_boxes_only(end: int) -> None:
    """Wherever it breaks off, in a head or in what follows it."""
    assert are_cut(WHOLE[:end]) is (end not in ENDS)


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(0, len(WHOLE)))
def test_chunks_of_any_size_say_the_same(sizes: list[int], end: int) -> None:
    """How the bytes were cut on their way makes no difference."""
    data, chunks = WHOLE[:end], []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]

    assert are_cut(*chunks, data) is (end not in ENDS)


@pytest.mark.parametrize(
    "rest",
    [
        b"\x00\x00\x00\x00mdat" + bytes(9),
        b"\x00\x00\x00\x07free",
        b"\x00\x00\x00\x01mdat" + bytes(8),
    ],
    ids=["to the end", "no box", "no long box"],
)
def test_what_cannot_be_told_is_not_called_cut(rest: bytes) -> None:
    """A last box may go on to the end, and a file may be no MP4 after all."""
    assert not are_cut(box(16) + rest)
