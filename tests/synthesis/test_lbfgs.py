"""L-BFGS row by row: known minima, no coupling between rows, no dependence on the scale, never worse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from convlens.synthesis.lbfgs import RowwiseLBFGS

Losses = Callable[[Tensor], Tensor]


def quadratic(seed: int, rows: int, size: int) -> tuple[Losses, np.ndarray]:
    """Half x A x - b x a row, and where each is lowest."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((rows, size, size))
    a = root @ root.transpose(0, 2, 1) + np.eye(size)
    b = rng.standard_normal((rows, size))
    lowest = np.stack([np.linalg.solve(a[row], b[row]) for row in range(rows)])
    held, pull = torch.from_numpy(a), torch.from_numpy(b)
    return lambda x: 0.5 * torch.einsum("ni,nij,nj->n", x, held, x) - (pull * x).sum(dim=1), lowest


def rosenbrock(x: Tensor) -> Tensor:
    return 100 * (x[:, 1] - x[:, 0] ** 2) ** 2 + (1 - x[:, 0]) ** 2


def descended(
    losses: Losses, start: Tensor, steps: int, scale: float = 1.0, careful: bool = True
) -> tuple[RowwiseLBFGS, Tensor, list[Tensor]]:
    leaf = start.clone().requires_grad_()
    optimiser = RowwiseLBFGS([leaf])
    optimiser.careful = careful
    best = []

    def closure() -> Tensor:
        leaf.grad = None
        with torch.enable_grad():
            found = scale * losses(leaf)
            found.sum().backward()  # type: ignore[no-untyped-call]
        return found.detach()

    for _ in range(steps):
        optimiser.step(closure)
        with optimiser.at_best(), torch.no_grad():
            best.append(leaf.detach().clone())
    return optimiser, best[-1], best


@pytest.mark.parametrize("careful", [True, False])
def test_the_minimum_of_a_quadratic_is_found(careful: bool) -> None:
    losses, lowest = quadratic(0, 3, 8)
    _, found, _ = descended(losses, torch.zeros(3, 8, dtype=torch.float64), 60, careful=careful)
    np.testing.assert_allclose(found.numpy(), lowest, rtol=0, atol=1e-8)


def test_a_bent_valley_is_gone_down_and_never_up() -> None:
    start = torch.tensor([[-1.2, 1.0], [2.0, -1.0]], dtype=torch.float64)
    _, found, best = descended(rosenbrock, start, 150)
    np.testing.assert_allclose(found.numpy(), 1.0, rtol=0, atol=1e-6)
    heights = torch.stack([rosenbrock(each) for each in best])
    assert bool((heights.diff(dim=0) <= 0).all())


def test_rows_are_bit_for_bit_what_they_are_alone() -> None:
    start = torch.tensor([[-1.2, 1.0], [2.0, -1.0], [0.3, 5.0]], dtype=torch.float64)
    _, both, _ = descended(rosenbrock, start, 40)
    for row in range(3):
        _, alone, _ = descended(rosenbrock, start[row : row + 1], 40)
        assert torch.equal(alone[0], both[row])


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
def test_the_scale_of_the_objective_does_not_matter(scale: float) -> None:
    start = torch.tensor([[-1.2, 1.0]], dtype=torch.float64)
    _, found, _ = descended(rosenbrock, start, 40)
    _, other, _ = descended(rosenbrock, start, 40, scale)
    assert torch.equal(other, found)


def test_what_is_told_and_taken_up_goes_on_as_before() -> None:
    start = torch.tensor([[-1.2, 1.0], [2.0, -1.0]], dtype=torch.float64)
    leaf = start.clone().requires_grad_()
    one = RowwiseLBFGS([leaf])

    def step(optimiser: RowwiseLBFGS, at: Tensor) -> None:
        def closure() -> Tensor:
            at.grad = None
            with torch.enable_grad():
                found = rosenbrock(at)
                found.sum().backward()  # type: ignore[no-untyped-call]
            return found.detach()

        optimiser.step(closure)

    for _ in range(9):
        step(one, leaf)
    copy = leaf.detach().clone().requires_grad_()
    other = RowwiseLBFGS([copy])
    other.load_state_dict(one.state_dict())
    for _ in range(9):
        step(one, leaf)
        step(other, copy)
    assert torch.equal(leaf, copy)


def test_where_nothing_pulls_it_stays() -> None:
    _, found, _ = descended(lambda x: 0 * x.sum(dim=1), torch.ones(2, 3), 5)
    assert torch.equal(found, torch.ones(2, 3))


def test_one_row_may_consist_of_several_leaves() -> None:
    losses, lowest = quadratic(1, 1, 7)
    leaves = [torch.zeros(3, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    optimiser = RowwiseLBFGS(leaves)

    def closure() -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        with torch.enable_grad():
            found = losses(torch.cat([leaf.flatten() for leaf in leaves])[None])
            found.sum().backward()  # type: ignore[no-untyped-call]
        return found.detach()

    for _ in range(40):
        optimiser.step(closure)
    found = torch.cat([leaf.detach().flatten() for leaf in leaves])
    np.testing.assert_allclose(found.numpy(), lowest[0], rtol=0, atol=1e-8)
