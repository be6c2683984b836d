"""What every test has: one thread for PyTorch, nothing kept between runs, the bundled folders."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVLENS_CACHE", "off")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bundled() -> Path:
    """The folder of bundled models and photos."""
    return Path(__file__).parents[1] / "models"
