"""The card that a finding leads to, with the evidence in its comments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from convlens.conventions.evidence import KINDS

if TYPE_CHECKING:
    from convlens.conventions.findings import Finding, Tried
    from convlens.model import Model


def card_text(model: Model, finding: Finding, tried: Tried, by_hand: bool) -> str:
    """A card as TOML, for the file of ``model``, that says the convention ``tried``.

    Args:
        model: its file and its input are named; settings that it was loaded with are kept.
        finding: what the convention comes from.
        tried: the convention that is written down.
        by_hand: a person chose it, the finding alone did not lead to it.
    """
    one, given = tried.convention, model.card.input
    settings = one.settings()
    whose = "chosen by hand" if by_hand else "found by trying conventions"
    how = f"{whose}; verdict on {finding.photos} photos: {finding.verdict}"
    lines = [
        f"# How pixels go in was {how}.",
        *(f"# {line}" for why in finding.why for line in _wrapped(why)),
        f"# Score {tried.score:.3f} of 1, from:",
        *(f"#   {kind} {value:.3f}: {KINDS[kind][1]}" for kind, value in tried.parts.items()),
    ]
    if tried.same:
        lines.append(f"# Practically the same to this model: {', '.join(tried.same)}.")
    others = [f"{t.convention.name} {t.score:.3f}" for t in finding.ranking if t is not tried][:4]
    if others:
        lines.append(f"# Others: {'; '.join(others)}.")
    lines += [
        "# How photos are cut and resampled (resize, crop, interpolation) is not told by behaviour.",
        "",
        "[model]",
        f"file = {_text(model.path.name)}",
        f"how = {_text(how)}",
        "",
        "[input]",
        f"layout = {_text(model.source.layout)}",
        f"channels = {_text(one.channels)}",
    ]
    if None in model.source.size and given.size is not None:
        lines.append(f"size = [{given.size[0]}, {given.size[1]}]")
    lines.append(f"range = {_numbers(settings['range'])}")
    if any(settings["mean"]) or any(s != 1 for s in settings["std"]):
        lines += [f"mean = {_numbers(settings['mean'])}", f"std = {_numbers(settings['std'])}"]
    lines += [f"resize = {_text(given.resize)}", f"interpolation = {_text(given.interpolation)}"]
    if given.crop != 1.0:
        lines.append(f"crop = {given.crop!r}")
    labels = model.card.output.labels
    if labels is not None:
        names = [list(names) if len(names) > 1 else names[0] for names in labels]
        lines += ["", "[output]", "labels = ["]
        lines += [f"  {json.dumps(name, ensure_ascii=False)}," for name in names]
        lines.append("]")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _numbers(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:g}' if float(f'{value:g}') == value else repr(value) for value in values)}]"


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 105)
