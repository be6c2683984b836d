"""Channels as a person types them: every spelling, and what is said about what is none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convlens import registry
from convlens.channels import (
    channels_behind,
    check_channels,
    counted_channels,
    read_channels,
    split_channels,
)
from convlens.errors import LayerError, ParameterError


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ("3", (3,)),
        ("0,4,8-11", (0, 4, 8, 9, 10, 11)),
        ("17,3", (17, 3)),
        ("3,3", (3, 3)),
        ("5-5", (5,)),
        (" 3 , 8 - 9 ", (3, 8, 9)),
        ("+3,1_000,007", (3, 1000, 7)),
        ("-1", (-1,)),
        ("-0", (0,)),
        ("٣", (3,)),
        (3, (3,)),
        (np.int64(3), (3,)),
        (3.0, (3,)),
        ([3, 17], (3, 17)),
        ((17, "3", "8-9"), (17, 3, 8, 9)),
        (["0,4", "8"], (0, 4, 8)),
        (range(2, 5), (2, 3, 4)),
        (np.array([4, 1]), (4, 1)),
        ((n for n in (2, 1)), (2, 1)),
        ("all", None),
        (" all ", None),
        (["all"], None),
    ],
)
def test_every_spelling(given: Any, numbers: tuple[int, ...] | None) -> None:
    assert read_channels(given) == numbers


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "no channel is named; expected numbers with commas between, ranges like 8-11, or all"),
        ([], "no channel is named"),
        ("3,", "no channel stands beside a comma; expected numbers"),
        (["", 3], "no channel stands beside a comma"),
        ("a", "'a' is no channel; expected numbers with commas between, ranges like 8-11, or all"),
        ("1,x", "'x' is no channel"),
        ("3.5", "'3.5' is no channel"),
        ("²", "'²' is no channel"),
        ("9" * 5000, "is no channel"),
        ("3;4", "'3;4' is no channel"),
        ("11-8", "'11-8' is no range of channels; expected one that goes up, like 8-11"),
        ("-3-5", "'-3-5' is no range"),
        ("3-", "'3-' is no channel"),
        ("0-999999999999", "'0-999999999999' are 1000000000000 channels; no layer has so many"),
        ("all,3", "all stands beside other channels; leave one of the two out"),
        ("relu1:0", "'relu1:0' names a layer, which is said elsewhere; expected channels alone"),
        (True, "True is no channel"),
        (None, "None is no channel"),
        ([3, None], "None is no channel"),
        (3.5, "3.5 is no channel"),
        (float("nan"), "nan is no channel"),
        (float("inf"), "inf is no channel"),
        (b"3", "is no channel"),
    ],
)
def test_what_is_no_channel(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        read_channels(given)
    assert "\n" not in str(caught.value)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 40)), min_size=1), st.randoms())
def test_ranges_are_their_numbers(runs: list[tuple[int, int]], random: Any) -> None:
    """However each run is written: as a range, or number by number; as one text or as several."""
    texts, numbers = [], []
    for first, more in runs:
        run = list(range(first, first + more + 1))
        texts.append(f"{first}-{run[-1]}" if random.random() < 0.5 else ",".join(map(str, run)))
        numbers += run
    assert read_channels(",".join(texts)) == read_channels(texts) == read_channels(numbers) == tuple(numbers)


@given(st.text(alphabet="0123456789-+_,: allx.²", max_size=12))
def test_anything_else_is_refused_in_words(text: str) -> None:
    """Nothing but a ValueError of ours comes out, whatever is typed."""
    try:
        found = read_channels(text)
    except ValueError as error:
        said = str(error)
    else:
        said = "a channel" if found is None or all(type(number) is int for number in found) else ""
    assert "channel" in said


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("relu1", ("relu1", None)),
        ("relu1:3", ("relu1", "3")),
        ("relu:0", ("relu:0", None)),
        ("relu:0:2,4", ("relu:0", "2,4")),
        ("gone:1", ("gone", "1")),
        ("gone", ("gone", None)),
        ("relu1:", ("relu1", "")),
    ],
)
def test_the_layer_stands_before_the_colon(text: str, parts: tuple[str, str | None]) -> None:
    assert split_channels(text, {"relu1", "relu:0"}) == parts


def test_channels_of_a_layer() -> None:
    assert channels_behind("a:6,0-2", "6,0-2", "a", 7) == (6, 0, 1, 2)
    assert channels_behind("a:all", "all", "a", 7) is None
    check_channels((), "a", 0)
    for tail, wrong in (("0,7", 7), ("5-9", 7), ("-1", -1)):
        with pytest.raises(LayerError, match=f"^layer 'a' has no channel {wrong}; it has channels 0 to 6$"):
            channels_behind(f"a:{tail}", tail, "a", 7)
    with pytest.raises(
        LayerError, match=r"^'v1:x' names no channel; expected a number behind the colon, like"
    ):
        channels_behind("v1:x", "x", "a", 7)


def test_what_no_layer_was_asked_about_is_counted_from_0() -> None:
    assert counted_channels("2,0") == (2, 0)
    assert counted_channels("all") is None
    with pytest.raises(ValueError, match=r"^-1 is no channel; they are counted from 0 up$"):
        counted_channels("3,-1")


# The three that read channels: one grammar, each with what it makes of it


@pytest.mark.parametrize(
    ("given", "numbers"),
    [("0,4,8-11", (0, 4, 8, 9, 10, 11)), ([3, 1], (3, 1)), (3, (3,)), ("all", "all"), (None, None)],
)
def test_parameters_read_alike(given: Any, numbers: Any) -> None:
    plain = registry.method("deconvnet").parse({"channel": given}).model_dump()["channel"]
    text = registry.method("visualise").parse({"channel": given}).model_dump()["channel"]
    assert plain == numbers
    assert text == (",".join(map(str, numbers)) if isinstance(numbers, tuple) else numbers)
    assert registry.method("deconvnet").parse({"channel": plain}).model_dump()["channel"] == plain
    assert registry.method("visualise").parse({"channel": text}).model_dump()["channel"] == text


def test_channels_named_twice() -> None:
    assert registry.method("visualise").parse({"channel": "4,0,3-5"}).model_dump()["channel"] == "4,0,3,5"
    with pytest.raises(ParameterError, match="channel 4 is named more than once; name it once"):
        registry.method("deconvnet").parse({"channel": "4,0,3-5"})


@pytest.mark.parametrize("name", ["deconvnet", "visualise", "invert"])
@pytest.mark.parametrize("wrong", ["", "a", "-1", "3,", "relu1:0", [True], "4-2"])
def test_parameters_refuse_alike(name: str, wrong: Any) -> None:
    with pytest.raises(ParameterError, match=f"^{name}: channel is .*channel") as caught:
        registry.method(name).parse({"channel": wrong})
    assert "\n" not in str(caught.value)
