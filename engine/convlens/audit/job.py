"""The audit step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens import registry
from convlens.audit.entry import Entry, Outcome
from convlens.audit.folder import claim, finish, job_key, part
from convlens.audit.folder import unfinished as in_progress
from convlens.audit.microscope import FOLDER, Effort, Microscope, summary
from convlens.audit.record import record_of
from convlens.audit.recorded import FOLDER as RECORDING
from convlens.audit.recorded import own_recording
from convlens.audit.verdicts import with_verdicts
from convlens.errors import ConvLensError, OutputError, UncertifiedError
from convlens.files import RAW
from convlens.inputs import none_readable
from convlens.registry import Images, Method, Step
from convlens.results import merge

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.recording.reading import Recording

_GROUP = 4  # photos in one part
USUAL, OWN = Effort(16, 2), Effort(8, 0)
"""Of the microscope: with a recording, and where a small one is made of the audit's own inputs."""


def audit(
    model: Model,
    paths: Sequence[Path],
    output: Path,
    *,
    batch_size: int = 4,
    seed: int = 0,
    allow_uncertified: bool = False,
    overwrite: bool = False,
    recording: Recording | None = None,
    closer: int | None = None,
    drawn: int | None = None,
    progress: Callable[[float], None] = lambda _share: None,
) -> Outcome:
    """Audit ``model`` on the photos at ``paths`` and write the report into ``output``.

    Args:
        model: what is audited; its card has to say how photos go in.
        paths: photos; those that cannot be decoded are named in the report.
        output: folder; new, empty, or with the unfinished audit of the very same job.
        batch_size: images in one forward.
        seed: for everything random.
        allow_uncertified: go on although the certificate fails; the report says so.
        overwrite: start afresh in a folder that holds something.
        recording: what a data set did to the model; every layer of it gets a page on which its channels are
            looked at one by one. Without one, a small recording is made of the inputs and of one layer.
        closer: channels of each layer that are reconstructed too; 16, without a recording 8.
        drawn: channels of each layer for which a picture is made; 2, without a recording none.
        progress: called with the share that is done.

    Raises:
        UsageError: the recording is of another model.
        CardError: the card does not say how photos go in.
        OutputError: the folder holds something else.
        ImageError: none of the inputs can be read, or the model takes none of their kind.
        UncertifiedError: the certificate failed.
    """
    words = model.input_words(any(path.suffix.lower() not in RAW for path in paths))
    steps = _steps(model)
    usual = OWN if recording is None else USUAL
    effort = Effort(usual.closer if closer is None else closer, usual.drawn if drawn is None else drawn)
    said = [None if recording is None else recording.of(model).record(), asdict(effort)]
    key = job_key(model, paths, steps, seed, allow_uncertified, said)
    goes_on = in_progress(output, key, overwrite)
    images, unread = model.readable(paths)
    if images is None:
        raise none_readable(unread)
    certificate = model.certificate()
    if not certificate.passed and not allow_uncertified:
        raise UncertifiedError(f"{certificate.words()} --allow-uncertified audits it all the same")
    if not goes_on:
        claim(output, key)
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "seed": seed,
        "allow_uncertified": allow_uncertified,
    }
    readable = [path for path in paths if path not in {other for other, _ in unread}]
    microscope, why = _microscope(model, recording, images, readable, output, effort, options)
    judged = [(method, step) for method, step in steps if method.attributes]
    total = sum(1 if not method.images else len(images) for method, _ in steps) + len(judged)
    total += len(microscope) if microscope is not None else 0
    done = 0
    entries: list[Entry] = []
    for number, (method, step) in enumerate(steps):
        stem = f"{number:02d}-{method.name}"
        parts = []
        for place, group in _groups(images if method.images else None, method.together):
            weight = len(group) if group is not None else 1

            def advance(share: float, start: int = done, weight: int = weight) -> None:
                progress((start + share * weight) / total)

            parts.append(
                part(
                    output / "results",
                    f"{stem}-{place}",
                    lambda method=method, step=step, group=group, advance=advance: model.run(  # type: ignore[misc]
                        method.name,
                        group,
                        progress=advance,
                        **options,
                        **step.parameters,
                    ),
                )
            )
            done += weight
            progress(done / total)
        result = merge(parts)
        entries.append(Entry(stem, method, step, result, tuple(method.findings(result))))
    entries = with_verdicts(
        model,
        entries,
        images,
        output / "results",
        batch_size=batch_size,
        seed=seed,
        advance=lambda share: progress((done + share * len(judged)) / total),
    )
    done += len(judged)
    seen: dict[str, Any] = {"layers": [], "why": why}
    if microscope is not None:
        seen = {**microscope.run(lambda count: progress((done + count) / total)), "why": why}
    skipped = [{"image": path.name, "reason": reason} for path, reason in unread]
    record = {**record_of(model, words, entries, skipped, images), "microscope": summary(seen)}
    finish(output, record, entries, images, seen["layers"])
    return Outcome(output / "index.html", record)


def _microscope(
    model: Model,
    recording: Recording | None,
    images: Images,
    paths: Sequence[Path],
    output: Path,
    effort: Effort,
    options: Mapping[str, Any],
) -> tuple[Microscope | None, str]:
    """What looks at channels one by one, or why there is nothing to look at."""
    own = recording is None
    if recording is None:
        try:
            folder = output / RECORDING
            recording = own_recording(model, images, paths, folder, options["batch_size"])
        except OutputError:
            raise
        except ConvLensError as error:
            return None, " ".join(str(error).split())
    return Microscope(model, recording, output / FOLDER, effort, own=own, **options), ""


def _steps(model: Model) -> list[tuple[Method[Any], Step]]:
    found = [(method, step) for method in registry.methods().values() for step in method.plan(model)]
    return sorted(found, key=lambda pair: (pair[1].order, pair[1].section))


def _groups(images: Images | None, together: bool) -> Iterator[tuple[int, Images | None]]:
    """A few photos at a time; all of them for what is about the set."""
    if images is None or together:
        yield 0, images
        return
    for place, start in enumerate(range(0, len(images), _GROUP)):
        yield place, images.rows(start, start + _GROUP)
