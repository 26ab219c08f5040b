"""How large one text, sample, identifier or image may be; what is larger is refused before it takes memory.

As a library's own guards (Pillow's MAX_IMAGE_PIXELS, csv.field_size_limit) they hold for the process: no result depends
on them, so that they stand in no stage's settings and a raised limit makes no result stale.
"""

from __future__ import annotations

import os
from functools import cache

from pydantic import Field, ValidationError

from parrot.config.base import StrictModel, explained
from parrot.errors import UserError
from parrot.io.files import read_object

VARIABLE = "PARROT_LIMITS"  # names a JSON file of `Limits`: how the workflow's jobs learn what its config says


class Limits(StrictModel):
    """The largest data that is read."""

    text_bytes: int = Field(1 << 20, gt=0, description="of one text in UTF-8: a turn, a question, an option")
    sample_bytes: int = Field(16 << 20, gt=0, description="of one sample of a JSON list")
    image_megapixels: float = Field(100, gt=0, description="of one image, in millions of pixels")
    nesting: int = Field(100, gt=0, le=500, description="JSON lists and objects within one another")
    id_characters: int = Field(1024, gt=0, description="of a sample's id")

    def check_text(self, text: str, where: str) -> None:
        """Check that a text has at most `text_bytes`.

        Raises:
            UserError: a longer text; the line begins with `where`.
        """
        # A character takes four bytes at most, so that short texts need no encoding.
        if 4 * len(text) > self.text_bytes and (size := len(text.encode(errors="surrogatepass"))) > self.text_bytes:
            raise UserError(f"{where}: expected at most {self.text_bytes} bytes (limits.text_bytes), found {size}")


DEFAULTS = Limits()
_of_config: Limits | None = None


def use(limits: Limits) -> None:
    """Hold this process to what its config says."""
    global _of_config
    _of_config = limits


def limits() -> Limits:
    """Return the limits given to `use`, else those of the file that `VARIABLE` names, else the defaults."""
    if _of_config is not None:
        return _of_config
    return _read(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else DEFAULTS


@cache
def _read(file: str) -> Limits:
    try:
        return Limits(**read_object(file))
    except ValidationError as error:
        raise UserError(f"{file}: {explained(error)}") from None
