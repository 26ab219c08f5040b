"""What needs Chromium says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from parrot.errors import UserError
from tests.helpers.rendered import rendered


def test_without_chromium_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install chromium"):
        rendered("about:blank")
