"""A pickle of weights is converted bit by bit, and nothing in it runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModel, M2M100Config, M2M100ForConditionalGeneration

from parrot.errors import UserError
from parrot.fetch.pickled_weights import convert
from parrot.io.digests import file_sha256

SMALL = {"vocab_size": 40, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}


def refused(source: Path, target: Path) -> str:
    with pytest.raises(UserError) as raised:
        convert(source, target, file_sha256(source))
    assert not target.exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_every_tensor_stays_bit_by_bit(tmp_path: Path) -> None:
    base = torch.randn(4, 6)
    tensors = {
        "half": torch.randn(3).bfloat16(),
        "nan": torch.tensor([float("nan"), -0.0]),
        "whole": torch.arange(3),
        "transposed": base.T,
        "shared": base,
        "part": base[1:3],
        "none": torch.empty(0, 3),
    }
    torch.save(tensors, tmp_path / "w.bin")
    digest = convert(tmp_path / "w.bin", tmp_path / "w.safetensors", file_sha256(tmp_path / "w.bin"))
    assert digest == file_sha256(tmp_path / "w.safetensors")
    found = load_file(tmp_path / "w.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        raw = [each.contiguous().flatten().view(torch.uint8).tolist() for each in (found[name], tensor)]
        assert raw[0] == raw[1]


@pytest.mark.parametrize("kind", ["vision", "tied"])
def test_transformers_loads_what_is_converted(tmp_path: Path, kind: str) -> None:
    """NLLB's pickle has its one table of embeddings under four names."""
    torch.manual_seed(0)
    if kind == "vision":
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        model: torch.nn.Module = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=8, patch_size=4))
    else:
        model = M2M100ForConditionalGeneration(M2M100Config(**SMALL, **HEADS))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    model.config.save_pretrained(tmp_path)  # type: ignore[union-attr,operator]
    convert(tmp_path / "pytorch_model.bin", tmp_path / "model.safetensors", file_sha256(tmp_path / "pytorch_model.bin"))
    (tmp_path / "pytorch_model.bin").unlink()
    loaded = type(model).from_pretrained(tmp_path)  # type: ignore[attr-defined]
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(value.equal(model.state_dict()[name]) for name, value in loaded.state_dict().items())


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("form", ["zip", "pickle"])
def test_a_pickle_that_would_run_something_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if form == "zip":
        torch.save({"weight": Harmful()}, "w.bin")
    else:
        Path("w.bin").write_bytes(pickle.dumps({"weight": Harmful()}))
    assert refused(Path("w.bin"), Path("w.safetensors")).startswith(
        "w.bin: cannot be converted: expected tensors by name"
    )
    assert not Path("harmed").exists()


def test_another_file_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"anything")
    found = file_sha256(tmp_path / "w.bin")
    with pytest.raises(UserError, match=rf"w\.bin: sha256: expected {'0' * 64}, found {found}; it is not opened$"):
        convert(tmp_path / "w.bin", tmp_path / "w.safetensors", "0" * 64)


@pytest.mark.parametrize(
    ("content", "said"),
    [({"a": torch.ones(1), "epoch": 3}, "found epoch to be none"), ([torch.ones(1)], "found the file to be none")],
)
def test_anything_but_tensors_is_named(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "w.bin")
    assert refused(tmp_path / "w.bin", tmp_path / "w.safetensors").endswith(f"expected tensors by name, {said}")


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, tmp_path / "w.bin")
    content = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(content[: len(content) // 2])
    assert "cannot be converted: expected tensors by name: " in refused(tmp_path / "w.bin", tmp_path / "w.safetensors")
