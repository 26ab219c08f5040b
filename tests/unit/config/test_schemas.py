"""config/*.schema.json are generated from the models, and hold of the files that name them."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from tools.config_readme import readme
from tools.schemas import schemas, text

CONFIG = Path(__file__).parents[3] / "config"


def test_schemas_are_in_step_with_the_models():
    generated = {name: text(schema) for name, schema in schemas().items()}
    written = {path.name: path.read_text(encoding="utf-8") for path in CONFIG.glob("*.schema.json")}
    assert written == generated, "run `make schemas`"


def test_the_page_is_in_step_with_the_schemas():
    assert (CONFIG / "README.md").read_text(encoding="utf-8") == readme(schemas()), "run `make schemas`"


def test_the_page_says_what_a_key_may_be():
    page = readme(schemas())
    assert "| `model.num_experts` | whole number >= 0 and <= 1024 | `6` | 0: no expert block" in page
    assert "| `model.residual` | `released`, `paper` | `released` |" in page
    assert "| `model.vision_tower` | text | **required** |" in page
    assert "| `model.top_k` | whole number >= 1, or `null` | `null` |" in page


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.name)
def test_every_file_names_its_schema_and_fits_it(path: Path):
    said = re.search(r"^# yaml-language-server: \$schema=(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert said, f"{path}: names no schema"
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), json.loads((CONFIG / said[1]).read_text()))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ("overlay", {"tune": {"learning_rte": 1.0}}),
        ("runs", {"wide": {"model": {"num_expert": 8}}}),
        ("runs", {"families": {"experts": {"over": "model.num_experts"}}}),
    ],
)
def test_schemas_refuse_misspelt_keys(schema: str, value: dict):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, json.loads((CONFIG / f"{schema}.schema.json").read_text()))
