"""The base of every typed setting, what its values may be, and the one error that users see.

Nothing is converted: a text is no number, true is no 1, and 2.0 is no whole number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, TypeVar

import pydantic
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from parrot.errors import UserError

# pydantic's names of errors; others are told in its own words.
EXPECTED = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_too_short": "a text that is not empty",
    "too_short": "at least one entry",
}
PYDANTIC = re.compile("Input should be|(?:String|Tuple|Dictionary|Value) should have|String should match")
# Keys, by their names in version 0.1.
RENAMED = {"houses": "image_sources", "pictures": "images", "max_new_tokens": "generation.max_new_tokens"}
MEMBER = re.compile(r"\[key\]|.*\[.*\].*|(?:[A-Z][a-z]+){2,}")  # what pydantic's places name besides fields


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys, and values of another kind, not finite, out of range or blank."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    LARGEST: ClassVar = 2**32 - 1  # what a seed may be, and far more than anything that is counted

    @field_validator("*")
    @classmethod
    def _can_be_meant(cls, value: Any) -> Any:
        for part in _parts(value):
            if isinstance(part, int) and abs(part) > cls.LARGEST:
                raise ValueError(f"expected at most {cls.LARGEST}, found {part}")
            if isinstance(part, str) and part and (part.isspace() or re.search(r"[\x00-\x08\x0b-\x1f\x7f]", part)):
                raise ValueError(f"expected a text that is not blank, without control characters, found {part!r}")
        return value


def _parts(value: Any) -> Iterator[Any]:
    """`value` and, of lists and mappings of plain values, what is in them."""
    if isinstance(value, dict):
        value = (*value, *value.values())
    if isinstance(value, tuple):
        for part in value:
            yield from _parts(part)
    else:
        yield value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"expected every entry once, found {value!r} twice")
    return values


def _bare(name: str) -> str:
    if re.search(r"[/\\\t\n]", name) or name in (".", ".."):
        raise ValueError(f"expected the name of a file, in one line and without folders, found {name!r}")
    return name


def _inside(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
        raise ValueError(f"expected a path inside, without .. and not from the root, found {path!r}")
    return path


class Placed(StrictModel):
    """A catalogue entry; where its `source` is downloaded, its files lie nowhere above the folder that they name."""

    @model_validator(mode="after")
    def _lies_below(self) -> Placed:
        fetched = not isinstance(getattr(self, "source", ""), str)
        for field in ("file", "path", "folder"):
            path = getattr(self, field, "")
            if fetched and ".." in PurePosixPath(path).parts:
                raise ValueError(f"{field}: expected a path without .., as it is downloaded, found {path!r}")
        return self


T = TypeVar("T")
Several = Annotated[tuple[T, ...], pydantic.Strict(False)]
Distinct = Annotated[tuple[T, ...], pydantic.Strict(False), AfterValidator(_distinct)]
Pair = Annotated[tuple[T, T], pydantic.Strict(False)]
Text = Annotated[str, Field(min_length=1)]
FileName = Annotated[Text, AfterValidator(_bare)]
PathInside = Annotated[str, AfterValidator(_inside)]
Share = Annotated[float, Field(ge=0, lt=1)]
LearningRate = Annotated[float, Field(gt=0, le=1)]


def explained(error: ValidationError) -> str:
    """Return the first thing that is wrong, in one line: the field, what was expected and what was found."""
    first, *others = error.errors()
    if first["loc"] and MEMBER.fullmatch(str(first["loc"][-1])):
        # Of a union's members the one that got furthest is the one that was meant.
        same = [other for other in others if other["loc"][: len(first["loc"]) - 1] == first["loc"][:-1]]
        first = max((first, *same), key=lambda one: len(one["loc"]))
    places = [str(part) for part in first["loc"] if not MEMBER.fullmatch(str(part))]
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        places.append(first["ctx"]["discriminator"].strip("'"))
    field = ".".join(places) or "(whole)"
    return f"{field}: {_said(first)}"


def _said(error: Any) -> str:
    found = error["input"]
    match error["type"]:
        case "extra_forbidden":
            new = RENAMED.get(str(error["loc"][-1]))
            return f"unknown key; it is called {new}" if new else "unknown key"
        case "union_tag_invalid":
            return f"expected {error['ctx']['expected_tags']}, found {_shown(error['ctx']['tag'])}"
        case "missing" | "union_tag_not_found":
            return "expected a value, found none"
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
    expected = EXPECTED.get(error["type"])
    said = f"expected {expected}" if expected else PYDANTIC.sub("expected", error["msg"])
    quote = "; quote it" if error["type"] == "string_type" and isinstance(found, bool | int | float) else ""
    return f"{said}, found {_shown(found)}{quote}"


def _shown(found: Any) -> str:
    if found is None or found in ((), [], {}, ""):
        return "none"
    if isinstance(found, dict | list | tuple | BaseModel):
        return "a list" if isinstance(found, list | tuple) else "a mapping"
    said = repr(found) if isinstance(found, str) else str(found).lower() if isinstance(found, bool) else str(found)
    return said if len(said) <= 60 else f"{said[:60]}..."


def validate(kind: Any, value: Any, where: str) -> Any:
    """Validate `value` as `kind`; a failure is one UserError line naming `where`, the field and what was expected."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise UserError(f"{where}: {explained(error)}") from None
