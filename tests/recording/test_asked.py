"""What a person asks a recording for: layers and channels by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from convlens.errors import LayerError
from convlens.recording.plan import Followed
from convlens.recording.reading import Recording
from convlens.recording.strongest.asked import Asked, asked


class Opened(Recording):
    """A recording of three layers, one with a colon in its name."""

    layers: Any = tuple(
        Followed(name, alias, "Relu", channels, 1, (2, 3), 2)
        for name, alias, channels in (("v1", "relu1", 8), ("net/relu:0", "relu:0", 4), ("v3", "relu", 6))
    )


@pytest.fixture
def recording() -> Recording:
    return Opened(SimpleNamespace(), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ((), []),
        (("relu1",), [Asked(0, None)]),
        (("v1:3",), [Asked(0, (3,))]),
        (("relu1:3,1", "relu1:7", "relu1:3"), [Asked(0, (3, 1, 7))]),
        (("relu:0",), [Asked(1, None)]),
        (("relu:0:2",), [Asked(1, (2,))]),
        (("net/relu:0",), [Asked(1, None)]),
        (("relu:5", "relu1:0"), [Asked(2, (5,)), Asked(0, (0,))]),
        (("relu1:2-4,0", "relu1:4-5"), [Asked(0, (2, 3, 4, 0, 5))]),
        (("relu1:all",), [Asked(0, None)]),
        (("relu:0:1-2", "relu:all"), [Asked(1, (1, 2)), Asked(2, None)]),
        (("relu1:2", "relu1"), [Asked(0, None)]),
        (("relu1", "relu1:2"), [Asked(0, None)]),
    ],
)
def test_layers_and_channels_by_name(
    texts: tuple[str, ...], wanted: list[Asked], recording: Recording
) -> None:
    assert asked(recording, texts) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("relu9", "was not recorded; nearest: .*'relu1'.*recorded are relu1, relu:0, relu"),
        ("relu9:1", "layer 'relu9' was not recorded"),
        ("relu1:8", "layer 'relu1' has no channel 8; it has channels 0 to 7"),
        ("relu1:-1", "no channel -1"),
        ("relu1:1,x", "'relu1:1,x' names no channel; expected a number behind the colon, like relu1:0"),
        ("relu1:", "names no channel"),
        ("relu1:4-2", "several like relu1:0,7 or relu1:0-7, or relu1 alone"),
        ("relu1:6-9", "layer 'relu1' has no channel 8; it has channels 0 to 7"),
    ],
)
def test_what_there_is_not_is_refused(text: str, words: str, recording: Recording) -> None:
    with pytest.raises(LayerError, match=words):
        asked(recording, [text])
