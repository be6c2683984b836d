"""The JSON schema of every registered method says what its parameters say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from convlens import registry
from convlens.cli.app import run
from convlens.cli.methods import command_for

METHODS = registry.methods()


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_a_schema_holds_every_parameter(method: registry.Method[Any]) -> None:
    schema = method.schema()
    assert schema["title"] == method.name
    assert schema["x-paper"]["cite"] == method.paper.cite
    assert schema.get("additionalProperties") is False
    assert set(schema["properties"]) == set(method.Parameters.model_fields)
    for name, entry in schema["properties"].items():
        assert entry["description"]
        default = method.Parameters.model_fields[name].default
        assert entry["default"] == (list(default) if isinstance(default, tuple) else default)
    assert ("target" in schema["x-needs"]) is method.target


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(
        json.dumps({name: method.schema() for name, method in METHODS.items()})
    )
    assert run(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(METHODS)


@pytest.mark.parametrize("method", registry.methods().values(), ids=lambda method: method.name)
def test_no_parameter_takes_the_name_of_an_option(method: registry.Method[Any]) -> None:
    names = [text for option in command_for(method).params for text in option.opts]
    assert len(names) == len(set(names))
