"""A model with other numbers in some of its weights, to be compared with the one that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from convlens.errors import UnsupportedError
from convlens.graph.replaced import with_stored
from convlens.model import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAME = ("source", "layers", "classes", "preprocess")  # they do not depend on the numbers in the weights


class Altered(Model):
    """``model`` with the stored tensors ``arrays``, by name, in place of its own.

    Nothing holds it against a file, as there is none, so it has no certificate; methods run on it as a
    :class:`~convlens.registry.Job`. Tensors that are not replaced are shared.
    """

    def __init__(self, model: Model, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Executors are made when they are needed."""
        graph = with_stored(model.graph, arrays)
        super().__init__(graph, model.card, model.path, model._digest, model.device, model.threads)
        self._batching = model.batching()
        for name in _SAME:
            if name in model.__dict__:
                self.__dict__[name] = model.__dict__[name]

    def certificate(self, seed: int = 0) -> NoReturn:
        """There is none.

        Raises:
            UnsupportedError: always.
        """
        del seed
        raise UnsupportedError(
            f"{self.name}: weights of the file were replaced by others, so nothing certifies this model; "
            "run methods on the model that was loaded"
        )
