"""What an input can hold and how its axes can lie, as types; light, since every command's help lists them."""

from __future__ import annotations

from typing import Literal, TypeAlias

Kind: TypeAlias = Literal[
    "photo", "image", "spectrogram", "signal", "video", "volume", "board", "tokens", "vector"
]
Layout: TypeAlias = Literal[
    "NCHW", "NHWC", "NHW", "NC1T", "NCT1", "N1TC", "NT1C", "NCT", "NTC", "NT", "NC", "NCTHW", "NTCHW", "NTHWC"
]
