"""Whether the maps of an audit are true: measured on the photos at hand, beside each map and in short."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens.attribution.faithful.verdicts import Judge
from convlens.attribution.maps import heat
from convlens.audit.folder import noted
from convlens.errors import ConvLensError
from convlens.registry import Finding
from convlens.running import settle

if TYPE_CHECKING:
    from convlens.audit.entry import Entry
    from convlens.model import Model
    from convlens.registry import Images


def with_verdicts(
    model: Model,
    entries: Sequence[Entry],
    images: Images,
    folder: Path,
    *,
    batch_size: int,
    seed: int,
    advance: Callable[[float], None],
) -> list[Entry]:
    """The entries, those that say where in the input with a verdict; finished ones come from ``folder``."""
    judged = [entry for entry in entries if entry.method.attributes and "heat" in entry.result.hints]
    if not judged:
        return list(entries)
    first = judged[0].method
    judge: Judge | None = None
    found: dict[str, Mapping[str, Any]] = {}
    for number, entry in enumerate(judged):

        def make(entry: Entry = entry) -> Mapping[str, Any]:
            nonlocal judge
            if judge is None:
                goal = settle(model, first, None, images, batch_size)
                assert goal is not None
                judge = Judge(model, images, goal, batch_size=batch_size, seed=seed)
            try:
                return judge.verdict(entry.method, entry.step.parameters, heat(entry.result, model.source))
            except ConvLensError as error:
                return {"refused": " ".join(str(error).split())}

        found[entry.key] = noted(folder, f"{entry.key}-verdict", make)
        advance((number + 1) / len(judged))
    return [
        replace(entry, verdict=found[entry.key]) if "order" in found.get(entry.key, ()) else entry
        for entry in entries
    ]


def doubts(entry: Entry) -> list[Finding]:
    """Why a map should not be believed, where that was measured."""
    if entry.verdict is None:
        return []
    order, random = entry.verdict["order"], entry.verdict["random"]
    doubtful = [random["words"]] if random["outcome"] == "stays" else []
    doubtful += [order["words"]] if order["outcome"] in ("same", "worse") else []
    title = entry.step.title[:1].upper() + entry.step.title[1:]
    return [
        Finding("attention", f"{title}: {words[:1].lower()}{words[1:]}", entry.verdict["rests_on"])
        for words in doubtful
    ]
