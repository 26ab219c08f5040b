"""Limits of the config reach whatever reads data, in this process and in the workflow's jobs."""

import json

import pytest

from parrot.config import limits
from parrot.config.limits import Limits
from parrot.errors import UserError


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(limits, "_of_config", None)


def test_the_config_comes_before_a_job_file_and_that_before_the_defaults(tmp_path, monkeypatch):
    assert limits.limits() == Limits()
    (tmp_path / "limits.json").write_text(json.dumps({"nesting": 7}))
    monkeypatch.setenv(limits.VARIABLE, str(tmp_path / "limits.json"))
    assert limits.limits().nesting == 7
    limits.use(Limits(nesting=8))
    assert limits.limits().nesting == 8


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"nesting": "deep"}, "nesting: expected a whole number, found 'deep'"),
        ({"depth": 7}, "depth: unknown key"),
    ],
)
def test_a_job_file_of_other_values_is_named(content, why, tmp_path, monkeypatch):
    (tmp_path / "limits.json").write_text(json.dumps(content))
    monkeypatch.setenv(limits.VARIABLE, str(tmp_path / "limits.json"))
    with pytest.raises(UserError) as refused:
        limits.limits()
    assert str(refused.value) == f"{tmp_path}/limits.json: {why}"


@pytest.mark.parametrize("text", ["ü" * 4, "\ud83d" * 3], ids=["letters", "lone surrogates"])
def test_a_text_is_measured_in_bytes(text):
    Limits(text_bytes=9).check_text(text, "here")
    with pytest.raises(UserError, match=r"here: expected at most 7 bytes \(limits.text_bytes\), found [89]"):
        Limits(text_bytes=7).check_text(text, "here")
