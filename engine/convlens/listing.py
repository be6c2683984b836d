"""Which methods there are, told without importing them: a list of commands must not cost what they cost.

A method that comes along is a file of ``convlens/methods`` by its name; its summary is read from the file's
text. One of another package is announced as an entry point, by its name, and imported to be listed.
"""

from __future__ import annotations

import re
from ast import literal_eval
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from convlens.registry import Method

ENTRY_POINTS = "convlens.methods"
REGISTERED: dict[str, Method[Any]] = {}
"""What :func:`convlens.registry.register` has entered so far."""

_PACKAGE = "convlens.methods"
_SUMMARY = re.compile(r"""^    summary = ("[^"\\\n]*"|'[^'\\\n]*')$""", re.MULTILINE)


def everything() -> dict[str, Method[Any]]:
    """Every method by name, imported."""
    _load()
    return dict(sorted(REGISTERED.items()))


def find(name: str) -> Method[Any] | None:
    """The method of that name, None where there is none; its own module alone is imported where it can be."""
    if name not in REGISTERED and name in _own():
        import_module(_own()[name].name)
    if name not in REGISTERED:
        _load()
    return REGISTERED.get(name)


def summaries() -> dict[str, str]:
    """What every method shows, one line each, by name."""
    for entry in _announced():
        entry.load()
    found = {name: method.summary for name, method in REGISTERED.items()}
    for name, spec in _own().items():
        if name not in found:
            found[name] = _read(spec) or _asked(name)
    return dict(sorted(found.items()))


@cache
def _load() -> None:
    for spec in _own().values():
        import_module(spec.name)
    for entry in _announced():
        entry.load()


@cache
def _own() -> dict[str, ModuleSpec]:
    """Where the methods lie that come along, by name."""
    package = find_spec(_PACKAGE)
    assert package is not None
    found = {}
    for finder, module, _ in iter_modules(package.submodule_search_locations):
        spec = finder.find_spec(f"{_PACKAGE}.{module}", None)
        assert spec is not None
        found[module.replace("_", "-")] = spec
    return found


def _announced() -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return list(entry_points(group=ENTRY_POINTS))


def _read(spec: ModuleSpec) -> str:
    """The summary as the module's text says it; empty where that cannot be told without running it."""
    source = getattr(spec.loader, "get_source", lambda _name: None)(spec.name)
    said = _SUMMARY.findall(source or "")
    return str(literal_eval(said[0])) if len(said) == 1 else ""


def _asked(name: str) -> str:
    method = find(name)
    return "" if method is None else method.summary
