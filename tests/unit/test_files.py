"""JSON files that users may have to mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from parrot.config import ConfigError
from parrot.files import read_json, read_object


@pytest.mark.parametrize("read", [read_json, read_object])
def test_a_missing_or_malformed_file_is_one_line(tmp_path: Path, read) -> None:
    path = tmp_path / "provenance.json"
    with pytest.raises(ConfigError, match=r"provenance\.json: cannot be read: No such file or directory$"):
        read(path)
    for content in (b"", b"{", b"[1,]", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"provenance\.json: expected JSON: [^\n]+$"):
            read(path)


def test_another_value_than_an_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "provenance.json"
    path.write_text("[]")
    assert read_json(path) == []
    with pytest.raises(ConfigError, match=r"provenance\.json: expected a JSON object, found list$"):
        read_object(path)
    path.write_text('{"seed": 0}')
    assert read_object(path) == {"seed": 0}
