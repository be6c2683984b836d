"""What a survey finds out about a file, and a slice of the corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from convlens.coverage import Row, Settings, examine, summary
from convlens.coverage.batches import relative_error
from convlens.coverage.examine import examine as look
from convlens.coverage.feeding import NoInputError, Sides, find_feeds, random_arrays, wanted
from convlens.model import Model
from convlens.trust.batches import Batching
from convlens.trust.certificate import Certificate, Check
from convlens_adapters.corpus import group_edges, group_variants, group_zoo
from convlens_adapters.corpus.edges import EDGES, Edge
from convlens_adapters.corpus.items import Item
from convlens_adapters.corpus.page import page

ONE = Settings(threads=1)

OTHERWISE = {
    "custom-operator": ("not counted", "my.domain"),
    "auto-pad-dilated": ("not counted", "Dilation not supported"),
}
"""Edge graphs that are not fine, and what the reason has to say."""

NOT_FREE = {
    "fixed-batch-4": ("fixed", "batch of 4"),
    "if-by-value": ("one by one", "If node 'y' decides for all of them at once"),
    "grid-sample": ("one by one", "several at once fail"),
    "lstm-over-width": ("one by one", "first axis"),
    "mean-variance": ("one by one", "influence each other"),
    "rows-influence-each-other": ("one by one", "influence each other"),
    "weights-of-a-run": ("one by one", "first axis"),
}
"""Edge graphs whose rows may not share a forward, as they are written, and the reason."""

SLICE = (
    "auto-pad-any-size auto-pad-dilated asymmetric-pads transposed-auto-pad max-ceil-past-the-pad "
    "average-ceil-with-pad unsorted ir3 weight-that-is-a-default output-is-input output-twice-inside "
    "filled-weights weights-of-a-run flatten-by-one size-of-the-input if-by-value batchnorm-7 resize-cubic "
    "focus-slices arg-max-only fused-conv lstm-over-width newest-opset fixed-batch-4 "
    "rows-influence-each-other custom-operator local-function same-output-twice colliding-names external-data"
)
VARIANTS = (
    "small-qdq-uint8-int8-per-channel small-qoperator-uint8-int8 small-dynamic-uint8 residual-qdq-int8-int8 "
    "segment-float16-inside residual-optimised-extended speech-float16"
)
ZOO = "light-squeezenet pytorch-converted-Conv1d_dilated pytorch-converted-MaxPool3d_stride_padding"


def written(items: list[Item], names: str, folder: Path) -> dict[str, Path]:
    """Files of those names, built as the corpus builds them."""
    known = {item.name: item for item in items}
    paths = {}
    for name in names.split():
        paths[name] = folder / f"{name}.onnx"
        known[name].build(paths[name])
    return paths


def edge(body: str, folder: Path, weights: dict[str, tuple[int, ...]] | None = None) -> Path:
    """One graph in ONNX text as a file."""
    path = folder / "edge.onnx"
    path.write_bytes(group_edges.model(Edge(body, weights or {})).SerializeToString())
    return path


def expect(name: str, row: Row) -> None:
    """The row says what is known of the graph of that name."""
    if name in OTHERWISE:
        verdict, part = OTHERWISE[name]
        assert row.verdict == verdict, (name, row.why, row.runtime)
        assert part in row.runtime + row.why
        return
    assert row.verdict == "fine", (name, row.verdict, row.runtime, row.why)
    batch, part = NOT_FREE.get(name, ("free", ""))
    assert row.batch == batch, (name, row.batch_why)
    assert part in row.batch_why
    assert row.differentiable is (name != "arg-max-only"), (name, row.gradient)


@pytest.mark.parametrize("name", SLICE.split())
def test_edges(name: str, tmp_path: Path) -> None:
    path = written(list(group_edges.items()), name, tmp_path)[name]
    expect(name, look(path, ONE))


@pytest.mark.parametrize("name", VARIANTS.split())
def test_variants(name: str, tmp_path: Path) -> None:
    row = look(written(list(group_variants.items()), name, tmp_path)[name], ONE)
    assert row.verdict == "fine", (row.runtime, row.why)
    assert row.differentiable, row.gradient


@pytest.mark.parametrize("name", ZOO.split())
def test_the_onnx_packages_graphs(name: str, tmp_path: Path) -> None:
    row = look(written(list(group_zoo.items()), name, tmp_path)[name], ONE)
    assert row.verdict == "fine", (row.runtime, row.why)


@pytest.mark.slow
@pytest.mark.parametrize("group", [group_edges, group_variants, group_zoo])
def test_all_that_needs_no_network(group: object, tmp_path: Path) -> None:
    for item in group.items():  # type: ignore[attr-defined]
        path = tmp_path / f"{item.name}.onnx"
        item.build(path)
        row = look(path, ONE)
        if group is group_edges:
            expect(item.name, row)
        assert row.verdict not in ("wrong", "lost"), (item.name, row.why)


def test_open_sizes_are_found_by_trying(tmp_path: Path) -> None:
    body = (
        "agraph (float[N, 3, H, W] x) => (float y) { s = Constant<value_ints = [-1, 12288]> () "
        "y = Reshape (x, s) }"
    )  # 12288 numbers are 3 x 64 x 64, or any share of a picture whose numbers it divides
    path = edge(body, tmp_path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    fed = find_feeds(session, wanted(session), None, 0, {})
    assert fed.arrays["x"].size % 12288 == 0
    card = find_feeds(session, wanted(session), (32, 128), 0, {})
    assert card.arrays["x"].shape == (2, 3, 32, 128)
    assert "as the card says" in card.words()


def test_other_inputs_get_plausible_numbers_or_those_of_the_card(tmp_path: Path) -> None:
    body = (
        "agraph (float[1, 2, L] x, int64 sr, float[1] gain) => (float y) "
        "{ r = Cast<to = 1> (sr) a = Div (x, r) y = Mul (a, gain) }"
    )
    session = onnxruntime.InferenceSession(edge(body, tmp_path), providers=["CPUExecutionProvider"])
    fed = find_feeds(session, wanted(session), None, 0, {"gain": np.array(0.5)})
    assert fed.arrays["sr"] == 16000
    assert fed.arrays["gain"].tolist() == [0.5]
    assert "sr=16000" in fed.words()
    assert "x 1x2x16000 float32" in fed.words()


def test_a_mask_is_as_long_as_what_it_masks_and_lets_something_through(tmp_path: Path) -> None:
    """A row of vectors and its mask; the middle axis counts vectors, and no batch of states."""
    body = (
        "agraph (float[1, N, 4] feats, bool[1, N] mask) => (float y) { c = Cast<to = 1> (mask) "
        "axes = Constant<value_ints = [2]> () w = Unsqueeze (c, axes) y = Mul (feats, w) }"
    )
    session = onnxruntime.InferenceSession(edge(body, tmp_path), providers=["CPUExecutionProvider"])
    fed = find_feeds(session, wanted(session), None, 0, {})
    assert fed.arrays["feats"].shape == (1, *fed.arrays["mask"].shape[1:], 4)
    assert fed.arrays["mask"].shape[1] > 1
    assert all(mask.any() for seed in range(8) for mask in _masks(session, seed))


def _masks(session: onnxruntime.InferenceSession, seed: int) -> list[Any]:
    return [random_arrays(wanted(session), 1, Sides((1,)), seed, 2)["mask"]]


def test_a_branch_that_hangs_on_a_size_is_decided_by_the_size_that_is_fed(tmp_path: Path) -> None:
    body = """agraph (float[1, 3, 8, W] x) => (float[1, 3, 8, W] y) { s = Shape (x)
        last = Constant<value_int = 3> () n = Gather<axis = 0> (s, last)
        least = Constant<value_int = 4> () c = Greater (n, least)
        y = If (c) <then_branch = p () => (float[1, 3, 8, W] k) { k = Neg (x) },
                    else_branch = q () => (float[1, 3, 8, W] m) { m = Abs (x) }> }"""
    row = look(edge(body, tmp_path), ONE)
    assert row.verdict == "fine", row.why
    assert "decides a branch" in row.fed


def test_an_input_that_nothing_fits_is_said(tmp_path: Path) -> None:
    nodes = "s = Constant<value_ints = [1, 1000]> () y = Reshape (x, s)"
    body = f"agraph (float[N, 3, 7, 7] x) => (float y) {{ {nodes} }}"
    session = onnxruntime.InferenceSession(edge(body, tmp_path), providers=["CPUExecutionProvider"])
    with pytest.raises(NoInputError, match="Reshape"):
        find_feeds(session, wanted(session), None, 0, {})


def test_the_error_is_relative_to_the_largest_magnitude() -> None:
    expected = np.array([4.0, -8.0, np.inf, np.nan], np.float32)
    assert relative_error(np.array([5.0, -8.0, np.inf, np.nan], np.float32), expected) == 1 / 8
    assert relative_error(np.array([4.0, -8.0, 1.0, np.nan], np.float32), expected) == np.inf
    assert relative_error(np.array([1, 2, 3, 5]), np.array([1, 2, 3, 4])) == 0.25


def test_a_batch_that_is_free_by_mistake_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mixed.onnx"
    path.write_bytes(group_edges.model(EDGES["rows-influence-each-other"]).SerializeToString())
    monkeypatch.setattr(Model, "batching", lambda self: Batching(True, True, None))
    row = look(path, ONE)
    assert row.certified
    assert (row.verdict, row.batch) == ("wrong", "wrong")
    assert "said to be free" in row.why


def test_a_failed_certificate_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(group_edges.model(EDGES["asymmetric-pads"]).SerializeToString())
    checks = (Check("c", "Conv", "random", 0.5, 0.25, False),)
    monkeypatch.setattr(examine, "certify", lambda *a, **k: Certificate(checks, ("random",)))
    row = look(path, ONE)
    assert row.verdict == "wrong"
    assert row.worst == 0.25
    assert "'c' (Conv)" in row.why


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("z = Constant<value_float = 0.0> () y = Mul (x, z)", "zero everywhere"),
        ("a = ArgMax<axis = 1> (x) y = Cast<to = 1> (a)", "has none"),
        ("y = Sqrt (x)", "not finite"),
    ],
)
def test_why_a_model_has_no_gradient(nodes: str, reason: str, tmp_path: Path) -> None:
    row = look(edge(f"agraph (float[N, 3, 8, 8] x) => (float y) {{ {nodes} }}", tmp_path), ONE)
    assert row.verdict == "fine", row.why
    assert row.differentiable is False
    assert reason in row.gradient


def test_a_file_that_is_no_model_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(b"this is no model")
    row = look(path, ONE)
    assert row.verdict == "not counted"
    assert "onnxruntime refuses it" in row.runtime


def rows(root: Path) -> list[Row]:
    """One of each outcome."""
    fine = Row(root / "edges" / "a.onnx", opened=True, certified=True, worst=1e-7, batch="free")
    fine.differentiable = True
    refused = Row(root / "edges" / "b.onnx", why=f"{root}/edges/b.onnx: If | is dynamic")
    left = Row(root / "edges" / "c.onnx", runtime="onnxruntime refuses it: no such thing")
    lost = Row(root / "edges" / "d.onnx", lost=True, why="not done in 9 s (--limit)")
    return [fine, refused, left, lost]


def test_counts_are_of_what_onnxruntime_runs(tmp_path: Path) -> None:
    total = summary(rows(tmp_path))
    expected = {"files": 4, "runs": 3, "opened": 1, "certified": 1, "batch_free": 1, "differentiable": 1}
    expected |= {"fine": 1, "refused": 1, "wrong": 0, "lost": 1}
    assert {key: total[key] for key in expected} == expected


def test_the_page_lists_what_is_not_fine_without_folders_of_a_machine(tmp_path: Path) -> None:
    reason = "no exporter: Gather[axis=0](%1) # /home/someone/env/lib/site-packages/keras/nn.py:3"
    text = page({"edges": rows(tmp_path)}, {"edges": {"e": reason}}, "2026-01-02", tmp_path)
    assert "made on 2026-01-02" in text
    assert "onnxruntime runs 3 of them. Of these 1 (33.3%) are opened" in text
    assert "| 4 | 3 | 1 | 1 | 1 | 1 |" in text
    assert "| edges/b | edges/b.onnx: If \\| is dynamic |" in text
    assert "| edges/c | onnxruntime refuses it: no such thing |" in text
    assert "| edges/e | no exporter: Gather\\[axis=0] (%1) # keras/nn.py:3 |" in text
    assert str(tmp_path) not in text


def test_names_of_the_corpus_are_unique() -> None:
    for group in (group_edges, group_variants, group_zoo):
        names = [item.name for item in group.items()]
        assert len(names) == len(set(names))
