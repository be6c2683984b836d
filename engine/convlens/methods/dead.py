"""``dead``: channels that never fire, always fire, or always say the same, over a recorded data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convlens.registry import Close, Field, Finding, Job, Method, Paper, Parameters, Step, Told, register
from convlens.results import Result

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.recording.channels.firing import Firing
    from convlens.recording.plan import Followed
    from convlens.recording.reading import Recording

_LISTED = 8
_HUNDRED = 100
_SURE = 0.05
"""Share of all images up to which a finding may be wrong and still asks for attention: 59 images."""


class DeadParameters(Parameters):
    """What ``dead`` can be told."""

    layers: tuple[str, ...] = Field((), description="recorded layers; all of them by default")
    rare: float = Field(
        0.01, ge=0, lt=1, description="share of the images up to which a channel hardly ever fires"
    )


@register
class Dead(Method[DeadParameters]):
    """How each channel of the recorded layers fires: never, hardly ever, always, at its upper end, or alike.

    Arrays have one number a channel, layer after layer: ``layer`` is the place of its layer in the recording,
    ``channel`` its number there. ``on`` (main) is the share of its values that are not zero, ``fires`` the
    share of the images on which its largest value is above zero, ``peaks`` that on which it is at the upper
    end of its layer (a ReLU6's 6, a sigmoid's 1) or up to a sixth below. ``mean``, ``deviation``, ``q99`` (of
    an image's largest value, to within a tenth) and ``largest`` are activations. ``images`` are those on
    which its values were numbers, ``unsound`` those on which one was not.

    ``state``: 0 usual; 1 never fires (no value above zero, of a rectifier); 2 hardly ever fires (on ``rare``
    of the images at most, of a rectifier); 3 always fires (no value is zero, of a rectifier that can close);
    4 saturated (always at its upper end); 5 constant; 6 never had a value that is a number.
    """

    name = "dead"
    summary = "channels that never fire, always fire or always say the same, over a data set"
    paper = Paper(
        "Lu et al. 2019; Hanley & Lippman-Hand 1983",
        "section 1; the rule of three",
        "https://arxiv.org/abs/1903.06733",
    )
    kind = "strips"
    Parameters = DeadParameters
    images = False
    recording = "must"
    asks = "layers"

    def run(self, job: Job[DeadParameters]) -> Result:
        """From the tallies alone; the model is not run."""
        import numpy as np

        from convlens.recording.channels.firing import ends_of, firing_of

        recording, given = job.recorded, job.parameters
        numbers = [recording.layer(name) for name in given.layers] or range(len(recording.layers))
        numbers = list(dict.fromkeys(numbers))
        layers = [recording.layers[number] for number in numbers]
        ends = ends_of(job.model.graph, [layer.name for layer in layers])
        found: list[Firing] = []
        for place, (number, end) in enumerate(zip(numbers, ends, strict=True)):
            found.append(firing_of(recording.tallies[number], end, given.rare))
            job.advance((place + 1) / len(numbers))
        each = [(layer, np.arange(layer.channels)) for layer in layers]
        parts = ("on", "fires", "peaks", "mean", "deviation", "q99", "largest", "images", "unsound", "state")
        arrays = {name: np.concatenate([getattr(firing, name) for firing in found]) for name in parts}
        owners = [np.full(len(own), number) for number, (_, own) in zip(numbers, each, strict=True)]
        arrays["layer"] = np.concatenate(owners)
        arrays["channel"] = np.concatenate([own for _, own in each])
        rows = tuple(_row(layer, firing) for layer, firing in zip(layers, found, strict=True))
        return Result(
            method=self.name,
            kind=self.kind,
            main="on",
            arrays=arrays,
            units={
                "on": "share of the values",
                "fires": "share of the images",
                "peaks": "share of the images",
                **dict.fromkeys(("mean", "deviation", "q99", "largest"), "activation"),
                "images": "images",
                "unsound": "images",
                "state": "number of the state",
                "layer": "index",
                "channel": "index",
            },
            rows=rows,
            hints={
                "layers": [layer.alias for layer in layers],
                "alike": [_groups(firing) for firing in found],
                **_strips(rows),
            },
        )

    def findings(self, result: Result) -> Sequence[Finding]:
        """What carries nothing, state by state, and on how many images that rests."""
        from convlens.recording.channels.firing import unseen

        rows, rare = result.rows, result.how["parameters"]["rare"]
        whole, images = sum(row["channels"] for row in rows), rows[0]["images"]
        bound = unseen(images)
        rests = (
            f"{_counted(images, 'image')}, so others may do otherwise on up to {100 * bound:.2g} % of all "
        )
        rests += "(with 95 % confidence)"
        found, seldom = [], f"on {100 * rare:.2g} % of the images at most"
        for state, one, several in (
            ("never", "never fires", "never fire"),
            ("constant", "always has the same value", "always have the same value"),
            ("saturated", "is always at its upper end", "are always at their upper end"),
            ("hardly", f"fires {seldom}", f"fire {seldom}"),
            ("always", "is never zero, so its rectifier never closes", "are never zero: always open"),
            ("unsound", "had values that are no numbers", "had values that are no numbers"),
        ):
            count = sum(row[state] for row in rows)
            if not count:
                continue
            surely = state == "unsound" or (state not in ("hardly", "always") and bound <= _SURE)
            text = f"{count:,} of {_counted(whole, 'channel')} {one if count == 1 else several}."
            evidence = f"{_where(result, state)}; {rests}" if state != "unsound" else _where(result, state)
            found.append(Finding("attention" if surely else "note", text, evidence))
        if not found:
            text = "Every channel fires on some of the images and not everywhere."
            found.append(Finding("good", text, f"{_counted(whole, 'channel')}, {_counted(images, 'image')}"))
        return found

    def look(self, model: Model, recording: Recording, close: Close) -> Sequence[Step]:
        """The statistics of the layer."""
        del model, recording
        return (Step("", 10, "statistics", {"layers": (close.layer,)}),)

    def tell(self, result: Result) -> Mapping[int, Told]:
        """Statistics of each channel, and whether it is in a state that is unusual."""
        from convlens.pictures.colour import number
        from convlens.recording.channels.firing import STATES, UNSOUND, USUAL

        each = {name: array.tolist() for name, array in result.arrays.items()}
        found = {}
        for place, channel in enumerate(each["channel"]):
            state, unsound = each["state"][place], each["unsound"][place]
            marks = [STATES[state]] * (state not in (USUAL, UNSOUND))
            marks += [f"no numbers on {_counted(unsound, 'image')}"] * (unsound > 0)
            facts = {
                "mean": f"{number(each['mean'][place])} ± {number(each['deviation'][place])}",
                "largest": number(each["largest"][place]),
                "above zero on": f"{_percent(each['fires'][place])} of images",
                "zero": f"{_percent(1 - each['on'][place])} of values",
            }
            if each["images"][place] >= _HUNDRED:
                facts["1 image of 100 exceeds"] = number(each["q99"][place])
            found[channel] = Told(facts, tuple(marks))
        return found


_NAMES = {1: "never", 2: "hardly", 3: "always", 4: "saturated", 5: "constant"}


def _groups(firing: Firing) -> dict[str, list[int]]:
    """The channels in each state that is worth a word."""
    groups = {name: (firing.state == state).nonzero()[0].tolist() for state, name in _NAMES.items()}
    return {**groups, "unsound": firing.unsound.nonzero()[0].tolist()}


def _row(layer: Followed, firing: Firing) -> dict[str, Any]:
    groups = _groups(firing)
    return {
        "layer": layer.alias,
        "channels": layer.channels,
        "images": int(firing.images.max()),
        **{name: len(own) for name, own in groups.items()},
        "on": float(firing.on.mean()),
    }


def _strips(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row of two strips a layer, its channels ordered by how often they fire."""
    strips, start = [], 0
    for row in rows:
        part = {"from": start, "to": start + row["channels"]}
        notes = [f"{row[state]} {state}" for state in (*_NAMES.values(), "unsound") if row[state]]
        strips.append({"label": row["layer"], "note": ", ".join(notes), **part})
        start += row["channels"]
    images = rows[0]["images"]
    return {
        "title": f"how often each channel fires, over {_counted(images, 'image')}",
        "strips": strips,
        "columns": [
            {"array": "fires", "title": "share of the images"},
            {"array": "on", "title": "share of the values"},
        ],
        "scale": {"low": 0.0, "high": 1.0, "label": "share on which a channel fires; each strip in order"},
    }


def _where(result: Result, state: str) -> str:
    """The layers with most such channels, and which channels of the first."""
    counted = [(row[state], place) for place, row in enumerate(result.rows) if row[state]]
    counted.sort(key=lambda pair: (-pair[0], pair[1]))
    said = []
    for rank, (count, place) in enumerate(counted[:_LISTED]):
        row, own = result.rows[place], result.hints["alike"][place][state]
        which = ", ".join(map(str, own[:_LISTED])) + (" ..." if count > _LISTED else "")
        said.append(f"{row['layer']} {count} of {row['channels']}" + (f" ({which})" if rank == 0 else ""))
    left = len(counted) - _LISTED
    return ", ".join(said) + (f" and {_counted(left, 'layer')} more" if left > 0 else "")


def _percent(share: float) -> str:
    """All and none are said only of all and none."""
    if 0.999 <= share < 1:
        return "over 99.9 %"
    return f"{100 * share:.3g} %"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
