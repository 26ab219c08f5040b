"""Both stages on a tiny model: what they train, write, resume and refuse."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from parrot.config.hardware import TrainingHardware
from parrot.errors import UserError
from parrot.model.build import build
from parrot.model.checkpoint import load_parrot
from parrot.train.stages import align, tune
from tests.helpers.tiny_runs import assert_equal, at_step, metrics, sigterm
from tests.helpers.tiny_training import align_settings, tune_settings, write_backbones, write_set

BY_4 = TrainingHardware(micro_batch=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backbones and one finished alignment, in `folder`/aligned."""
    folder = tmp_path_factory.mktemp("train")
    write_backbones(folder)
    settings = align_settings(folder, (write_set(folder, "captions"),), max_steps=3)
    align(settings, folder / "aligned", folder / "work", BY_4)
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path):
    """Two sets of held-out English, apart from each other."""
    data = (write_set(folder, "sft_en"), write_set(folder, "sft_zh", "zh"))
    held_out = (write_set(folder, "val_en"), write_set(folder, "val_zh", "zh"), write_set(folder, "val_more_en"))
    return tune_settings(folder, data, held_out, eval_steps=4)


@pytest.fixture(scope="module")
def tuned(folder: Path, settings) -> Path:
    tune(settings, folder / "aligned/projector", folder / "tuned", folder / "work", BY_4)
    return folder / "tuned"


def power_cut() -> None:
    raise RuntimeError("power cut")


def test_align_changes_the_projector_only(folder, settings):
    before, _ = build(align_settings(folder, settings.data))
    after, _ = build(align_settings(folder, settings.data), folder / "aligned/projector")
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, after.state_dict()[name])}
    assert changed == {name for name in before.state_dict() if "multi_modal_projector" in name}
    saved = load_file(folder / "aligned/projector/model.safetensors")
    assert len(saved) == 4


def test_tune_leaves_the_vision_tower_alone(folder, settings, tuned):
    before, _ = build(settings, folder / "aligned/projector")
    after, _ = load_parrot(tuned / "model")
    weights = after.state_dict()
    for name, value in before.state_dict().items():
        assert torch.equal(value, weights[name]) == ("vision_tower" in name), name


def test_every_step_and_held_out_loss_is_recorded(settings, tuned):
    rows = metrics(tuned)
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 13))
    assert [row["samples"] for row in steps] == [8 * step for step in range(1, 13)]
    assert set(steps[0]) == {"step", "loss", "lr", "grad_norm", "samples"}
    assert [set(row) for row in rows if "loss" not in row] == [{"step", "eval_loss_en", "eval_loss_zh"}] * 3
    assert [row["step"] for row in rows if "loss" not in row] == [4, 8, 12]
    assert steps[1]["lr"] == pytest.approx(1e-2)
    assert steps[-1]["loss"] < steps[0]["loss"] / 1.2


def test_held_out_loss_is_the_mean_over_the_supervised_tokens_of_a_languages_sets(folder, settings, tuned):
    model, processor = load_parrot(tuned / "model")
    total = count = 0
    english = [entry for entry in settings.validation if entry.language == "en"]
    for sample in (sample for entry in english for sample in json.loads(Path(entry.file).read_text())):
        ids, labels = processor.format_conversation(sample["conversations"])
        inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        if "image" in sample:
            image = Image.open(Path(english[0].images, sample["image"])).convert("RGB")
            inputs["pixel_values"] = processor.image_processor([image], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            scores = model(**inputs).logits[0, :-1].log_softmax(-1)
        for position, label in enumerate(labels[1:]):
            if label != -100:
                total, count = total - scores[position, label].item(), count + 1
    assert metrics(tuned)[-1]["eval_loss_en"] == pytest.approx(total / count, rel=1e-4)


def test_stopped_by_sigterm_and_resumed_equals_uninterrupted(folder, settings, tuned, tmp_path, monkeypatch):
    step = random.randrange(1, 12)
    arguments = (settings, folder / "aligned/projector", tmp_path / "run", tmp_path / "work", BY_4)
    with monkeypatch.context() as patch:
        at_step(patch, step, sigterm)
        with pytest.raises(SystemExit) as stopped:
            tune(*arguments)
    assert stopped.value.code == 143
    assert not (tmp_path / "run/model").exists()
    tune(*arguments)
    assert_equal(tmp_path / "run", tuned, resumed_from=step)


def test_crashed_and_resumed_equals_uninterrupted(folder, settings, tuned, tmp_path, monkeypatch):
    arguments = (settings, folder / "aligned/projector", tmp_path / "run", tmp_path / "work", BY_4)
    with monkeypatch.context() as patch:
        at_step(patch, 12, power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            tune(*arguments)
    (work,) = (path for path in (tmp_path / "work/tune").iterdir() if path.is_dir())
    (work / "checkpoint-10/complete").unlink()  # as if the cut had come while it was written
    tune(*arguments)
    assert_equal(tmp_path / "run", tuned, resumed_from=5)
    assert not work.exists()


def test_micro_batch_does_not_change_the_losses(folder, settings, tuned, tmp_path):
    tune(settings, folder / "aligned/projector", tmp_path / "run", tmp_path / "work", TrainingHardware(micro_batch=8))
    for ours, theirs in zip(metrics(tmp_path / "run"), metrics(tuned), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_provenance_names_what_made_the_model(folder, settings, tuned, monkeypatch):
    facts = json.loads((tuned / "provenance.json").read_text())
    stage1 = json.loads((folder / "aligned/provenance.json").read_text())
    assert facts["projector_sha256"] == stage1["projector_sha256"]
    assert facts["settings"] == settings.model_dump(mode="json")
    assert (facts["stage"], facts["seed"], facts["samples"], facts["processes"]) == ("tune", 3, 40, 1)
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["resumed_from_step"] is None
    known = {"git_commit", "git_dirty", "data_pins", "attention", "image_processor", "slurm_job_id", "threads"}
    assert known | {"wall_seconds", "peak_rss_mib"} <= facts.keys()


@pytest.mark.parametrize(
    ("recorded", "step_fault"),
    [
        ('{"projector_sha256": "0"}', "the projector that was loaded is not the one that .*provenance.json describes$"),
        ("{}", "the projector that was loaded is not the one that .*provenance.json describes$"),
        ("", r"provenance\.json: expected JSON: [^\n]+$"),
    ],
)
def test_another_projector_than_stage_1_saved_is_refused(recorded, step_fault, folder, settings, tmp_path):
    shutil.copytree(folder / "aligned", tmp_path / "aligned")
    (tmp_path / "aligned/provenance.json").write_text(recorded)
    with pytest.raises(UserError, match=step_fault):
        tune(settings, tmp_path / "aligned/projector", tmp_path / "run", tmp_path / "work", BY_4)


def test_a_projector_folder_without_weights_is_refused(settings, tmp_path):
    with pytest.raises(UserError, match=r"projector: no model.safetensors; expected a projector"):
        tune(settings, tmp_path / "projector", tmp_path / "run", tmp_path / "work", BY_4)


def test_an_output_below_a_file_is_refused(folder, settings, tmp_path):
    (tmp_path / "results").touch()
    with pytest.raises(UserError, match=r"results/run: cannot be made a folder: Not a directory"):
        tune(settings, folder / "aligned/projector", tmp_path / "results/run", tmp_path / "work", BY_4)


@pytest.mark.parametrize(
    ("kept", "role", "step_fault"),
    [
        (0, "data", "expected at least one sample, found none"),
        (0, "validation", "expected at least one sample, found none"),
        (slice(4, 5), "data", "expected samples with images, found none"),
        (slice(1), "data", "model.router: shuffled_text needs another sample's text, found one"),
    ],
    ids=["no sample", "no held-out sample", "no image", "no other text"],
)
def test_nothing_to_learn_from_stops_the_run_before_its_first_step(folder, settings, tmp_path, kept, role, step_fault):
    few = write_set(tmp_path, "few", count=5)
    samples = json.loads(Path(few.file).read_text())
    Path(few.file).write_text(json.dumps(samples[kept] if kept else []))
    experts = settings.experts.model_copy(update={"router": "shuffled_text"})
    wanting = settings.model_copy(update={"experts": experts, "validation": (), role: (few,)})
    with pytest.raises(UserError, match=step_fault):
        tune(wanting, folder / "aligned/projector", tmp_path / "run", tmp_path / "work", BY_4)


def test_a_loss_that_is_not_finite_stops_the_run(folder, settings, tmp_path):
    recipe = settings.recipe.model_copy(update={"learning_rate": 1e30})
    broken = settings.model_copy(update={"recipe": recipe, "validation": ()})
    with pytest.raises(UserError, match=r"step 3: the loss is (nan|inf); the batch's samples are sft_"):
        tune(broken, folder / "aligned/projector", tmp_path / "run", tmp_path / "work", BY_4)
    assert not (tmp_path / "run/model").exists()
