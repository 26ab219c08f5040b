"""Runs by name: overrides, families, shared stage 1, and errors that name the place."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_interface_common.exceptions import WorkflowError

from parrot.config.catalog import HubFolder
from parrot.config.settings import load_config, overlay
from parrot.config.suite import Suite
from parrot.errors import UserError

CONFIG = "config/config.yaml"


@pytest.fixture
def suite() -> Suite:
    return Suite.load((CONFIG,))


def test_overlay_merges_maps_and_replaces_lists():
    merged = overlay({"a": {"x": 1, "y": [1, 2]}, "b": 1}, {"a": {"y": [3]}, "c": 2})
    assert merged == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}


def test_families_are_named_by_their_last_element(suite):
    assert suite.target("experts") == tuple(f"experts_{n}" for n in (1, 2, 4, 6, 8))
    assert suite.target("add_lang")[-1] == "add_lang_ru"
    assert suite.run("add_lang_pt").config.data.languages == ("en", "zh", "pt")


def test_runs_that_differ_in_experts_or_languages_share_stage_1(suite):
    keys = {suite.run(name).stage1_key for name in ("parrot", "no_experts", "english", "experts_2", "add_lang_zh")}
    assert len(keys) == 1


def test_another_seed_aligns_anew():
    raw = load_config(CONFIG)
    assert Suite(raw).run("parrot").stage1_key != Suite(raw | {"seed": 1}).run("parrot").stage1_key


def test_english_run_reads_english_instructions_only(suite):
    assert {entry.language for entry in suite.run("english").tune.data} == {"en"}
    assert suite.run("english").tune.experts.num_experts == 0


def test_another_title_of_a_benchmark_makes_no_result_stale(suite):
    run = suite.run("parrot")
    assert [entry.called for entry in run.shown_benchmarks] == ["mini-MMMB", "mini-MMBench"]
    assert {entry.title for entry in (*run.predict.benchmarks, *run.score.benchmarks)} == {""}


def test_a_run_decodes_a_benchmark_in_its_own_way(tmp_path: Path):
    """As mBLIP does by five beams what Parrot predicts greedily."""
    suite = suite_with(
        tmp_path,
        """
parrot: {}
beams: {evaluate: {generation: {mini_mmmb: {max_new_tokens: 10, num_beams: 5, length_penalty: -1.0}}}}
lost: {evaluate: {generation: {mini_mmbb: {max_new_tokens: 10}}}}
""",
    )
    greedy, beams = suite.run("parrot").predict, suite.run("beams").predict
    assert [entry.generation.num_beams for entry in greedy.benchmarks] == [1, 1]
    own = {"max_new_tokens": 10, "num_beams": 5, "length_penalty": -1.0}
    assert beams.benchmarks[0].generation.model_dump() == own
    assert beams.benchmarks[1] == greedy.benchmarks[1]
    with pytest.raises(UserError, match=r"run lost: evaluate\.generation: mini_mmbb: expected one of .*: mini_mmmb, "):
        _ = suite.run("lost").predict


def test_an_alias_is_another_name_at_each_scale(suite):
    paper = Suite.load((CONFIG, "config/paper.yaml"))
    assert [each.run("clip_zh").tune.vision_tower.path.rpartition("/")[2] for each in (suite, paper)] == [
        "clip_zh",
        "chinese-clip-vit-large-patch14-336px",
    ]
    assert suite.run("parrot_all_captions").stage1_key == suite.run("parrot").stage1_key


def test_a_scale_without_an_alias_says_which_it_has():
    raw = load_config(CONFIG)
    lacking = Suite(raw | {"aliases": {"captions_all": ["mini_captions"]}})
    with pytest.raises(UserError, match=r"no backbone named clip_zh in .*; aliases at scale mini are captions_all$"):
        _ = lacking.run("clip_zh").tune
    several = Suite(raw | {"aliases": {"clip_zh": ["mini_clip", "mini_clip_zh"]}})
    with pytest.raises(UserError, match=r"clip_zh: model\.vision_tower: expected an alias of one backbone, "):
        several.run("clip_zh")


def test_a_run_of_unpublished_data_is_left_out_until_its_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    suite = Suite.load((CONFIG, "config/paper.yaml"))
    assert "parrot_all_captions" not in suite.targets
    with pytest.raises(UserError, match=r"laion_caption is not published; whoever holds it puts it at data/paper/"):
        suite.check("parrot_all_captions")
    configfiles = tuple(str(Path(file).absolute()) for file in (CONFIG, "config/paper.yaml"))
    shutil.copytree("config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    for name in ("laion_caption", "cc12m_caption"):
        file = Path(suite.datasets[name].file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("[]")
    assert "parrot_all_captions" in Suite.load(configfiles).targets


def test_settings_survive_json(suite):
    tune = suite.run("parrot").tune
    assert type(tune).model_validate_json(json.dumps(tune.model_dump(mode="json"))) == tune


def test_unknown_run_names_those_that_are_like_it(suite):
    with pytest.raises(UserError, match=r"^config/runs\.yaml: unknown run parot; did you mean parrot\?$"):
        suite.run("parot")


def test_a_family_where_a_run_is_expected_names_its_runs(suite):
    with pytest.raises(UserError, match=r"runs\.yaml: experts is a family; expected one of its runs: experts_1, "):
        suite.run("experts")


def test_misspelt_key_names_the_field():
    raw = overlay(load_config(CONFIG), {"tune": {"learning_rte": 1e-3}})
    with pytest.raises(UserError, match=r"^config: tune\.learning_rte: unknown key$"):
        Suite(raw)


def test_epochs_and_max_steps_exclude_each_other():
    raw = overlay(load_config(CONFIG), {"tune": {"epochs": 1}})
    with pytest.raises(UserError, match="exactly one of epochs and max_steps"):
        Suite(raw)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ("all: {}\n", "all is a reserved name"),
        ("parrot: 3\n", "parrot: expected a mapping of overrides, found int"),
        ("families: []\nparrot: []\n", "parrot: expected a mapping of overrides, found list"),
        ("families: [a]\n", "families: expected a mapping of names, found list"),
        ("families: {a: {over: 3, values: [1]}}\n", "families.a: over: expected a field such as"),
        ("families: {a: {over: seed, values: []}}\n", "families.a: values: expected a list of at least one value"),
        ("families: {a: {over: seed, values: 12}}\n", "families.a: values: expected a list"),
        ("families: {a: {over: data.languages, values: [[en, zh], [pt, zh]]}}\n", "two of them are called a_zh"),
        ("a: {}\nfamilies: {a: {over: seed, values: [1]}}\n", "a is both a run and a name of families.a"),
        ("mine: {}\nMine: {}\n", "mine and Mine: expected names that differ by more than case"),
        ("mine.: {}\n", "'mine.': a name is made of"),
        ("../mine: {}\n", "a name is made of"),
        ("ALL: {}\n", "ALL is a reserved name"),
        (f"{'m' * 101}: {{}}\n", "a name is made of"),
        *((f"{name}: {{}}\n", f"{name} is a reserved name") for name in ("scores.csv", "report.html", "data.json")),
        ("parrot: {}\nno: {}\nparrot: {seed: 7}\n", "line 3, column 1: parrot is there twice"),
        ("families: {experts: {over: model.num_experts}}\n", "expected the keys over, values and, if any, against"),
        ("parrot: {against: no_experts}\n", "parrot: against: expected a list of run names"),
    ],
)
def test_bad_run_catalogues(tmp_path: Path, runs: str, message: str):
    for name in ("datasets", "benchmarks", "images"):
        (tmp_path / f"{name}.yaml").write_text(Path(f"config/{name}.yaml").read_text())
    (tmp_path / "runs.yaml").write_text(runs)
    with pytest.raises(UserError, match=message):
        Suite(load_config(CONFIG), catalogues=tmp_path)


def test_unknown_data_set_lists_the_known_ones():
    raw = overlay(load_config(CONFIG), {"data": {"align": ["mini_caption"]}})
    with pytest.raises(UserError, match=r"no conversations named mini_caption in .*, which has .*mini_captions"):
        _ = Suite(raw).run("parrot").align


def suite_with(tmp_path: Path, runs: str) -> Suite:
    for name in ("datasets", "benchmarks", "images"):
        (tmp_path / f"{name}.yaml").write_text(Path(f"config/{name}.yaml").read_text())
    (tmp_path / "runs.yaml").write_text(runs)
    return Suite(load_config(CONFIG), catalogues=tmp_path)


def test_a_target_is_compared_with_its_baselines(tmp_path: Path):
    runs = """
parrot: {}
alone: {against: [], seed: 1}
other: {against: [alone, parrot, other]}
lost: {against: [alon]}
families: {experts: {over: model.num_experts, values: [1, 2], against: [experts_1, parrot]}}
"""
    suite = suite_with(tmp_path, runs)
    against = {name: suite.against(name) for name in suite.targets if name != "lost"}
    assert against == {
        "parrot": (), "alone": (), "other": ("alone", "parrot"),
        "experts": ("parrot",), "experts_1": ("parrot",), "experts_2": ("experts_1", "parrot"),
    }  # fmt: skip
    assert "against" not in suite.overrides["alone"]
    with pytest.raises(UserError, match=r"lost: against: unknown run alon; did you mean alone\?$"):
        suite.against("lost")


def test_a_run_that_does_not_fit_this_scale_stops_no_other(tmp_path: Path):
    runs = """
parrot: {}
mine: {tune: {epochs: 1}}
wide: {model: {num_expert: 8}}
beside: {against: [mine], seed: 1}
families: {experts: {over: model.num_experts, values: [1, many]}}
"""
    suite = suite_with(tmp_path, runs)
    assert suite.targets == ("parrot", "experts_1")
    assert list(suite.trained_as) == ["parrot", "experts_1"]
    for target, said in (("beside", "mine: tune: .*exactly one"), ("experts", "experts_many: model.num_experts: ")):
        with pytest.raises(UserError, match=rf"runs\.yaml: {said}"):
            suite.check(target)
    suite.check("parrot")


def test_the_english_run_with_equal_passes_is_english_itself_at_the_papers_scale(suite: Suite):
    matched = suite.run("english_matched").config.tune
    assert (matched.epochs, matched.max_steps) == (1, None)
    assert suite.trained_as["english_matched"] == "english_matched"
    assert "english_matched" not in suite.config.report.runs
    assert Suite.load((CONFIG, "config/paper.yaml")).trained_as["english_matched"] == "english"


def test_a_run_that_asks_a_model_as_it_is_trains_nothing(suite):
    run = suite.run("qwen2_vl")
    run.check()
    assert run.predict.model is not None
    assert run.predict.model.path == "data/hub/Qwen2-VL-7B-Instruct"
    assert list(run.fetch.datasets.values()) == [run.predict.model]
    assert run.fetch.benchmarks == suite.run("parrot").fetch.benchmarks
    assert run.stage1_key is None
    assert run.predict_stage1.controls == ()
    assert "qwen2_vl" not in suite.trained_as
    assert suite.trained(["parrot", "qwen2_vl", "english"]) == ("parrot", "english")


@pytest.mark.parametrize(
    ("model", "path", "source"),
    [
        ("hf: mini_qwen", "workflow/resources/mini/backbones/qwen", "shipped"),
        ("hf: parrot/model", "parrot/model", "local"),
        ("hf: some/name", "data/hub/some--name", HubFolder(repository="some/name")),
        ("hf: some/name, revision: v1", "data/hub/some--name@v1", HubFolder(repository="some/name", revision="v1")),
    ],
    ids=["catalogue", "folder", "repository", "revision"],
)
def test_a_model_is_named_by_catalogue_folder_or_repository(tmp_path: Path, model: str, path: str, source):
    asked = suite_with(tmp_path, f"asked: {{model: {{{model}}}}}\n").run("asked").pretrained_model
    assert asked is not None
    assert (asked.path, asked.source) == (path, source)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("{model: {hf: nowhere}}", r"^run asked: model\.hf: no folder nowhere, .* which has .*mini_qwen"),
        (f"{{model: {{hf: {'m' * 5000}}}}}", r"^run asked: model\.hf: no folder m{5000}, "),
        (r'{model: {hf: "no\nwhere"}}', r"^run asked: model\.hf: no folder no\\nwhere, "),
        ("{model: {hf: ./models/nowhere}}", r"^run asked: model\.hf: no folder \./models/nowhere"),
        (
            "{model: {hf: mini_qwen, revision: v1}}",
            r"model\.hf: expected a hub repository beside a revision, and mini_qwen is none",
        ),
        ("{model: {revision: v1}}", r"asked: model\.revision: expected model\.hf beside it$"),
        ("{model: {hf: mini_qwen, top_k: 2}}", r"asked: model\.top_k: expected none beside model\.hf"),
        ("{model: {hf: mini_qwen}, data: {languages: [en]}}", r"asked: data: expected none beside model\.hf"),
    ],
)
def test_what_a_run_that_trains_nothing_may_not_say(tmp_path: Path, run: str, message: str):
    with pytest.raises(UserError, match=message):
        suite_with(tmp_path, f"asked: {run}\n").run("asked").check()


def test_a_config_file_names_no_model_to_ask():
    with pytest.raises(UserError, match=r"^config: model\.hf: expected in a run of config/runs\.yaml"):
        Suite(overlay(load_config(CONFIG), {"model": {"hf": "mini_qwen"}}))


@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        ({"gpus": 7}, "hardware.align: global_batch 48 cannot be split over 7 processes; .*: 6 and 8$"),
        ({"nodes": 2, "gpus": 2, "align": {"micro_batch": 12}}, "hardware.tune: micro_batch: 48 x 4 processes .*: 12$"),
    ],
)
def test_processes_that_the_batch_does_not_fit_are_refused_before_any_job(hardware, said):
    with pytest.raises(UserError, match=f"run parrot: {said}"):
        Suite(overlay(load_config(CONFIG), {"hardware": hardware})).run("parrot").check()


TAKEN, REFUSED = ("h100", "nvidia_h100_80gb_hbm3", "1g.10gb"), ("nvidia_a100-sxm4-80gb", "'h100'", "a100 ")


@pytest.mark.parametrize("name", TAKEN + REFUSED)
def test_a_gpu_model_that_snakemake_cannot_submit_is_refused_before_any_job(name):
    ours = pytest.raises(UserError, match=r"^config: hardware\.gpu_model: .* letters, digits, _ and \. alone, found")
    with ours if name in REFUSED else nullcontext():
        Suite(overlay(load_config(CONFIG), {"hardware": {"gpus": 8, "gpu_model": name}}))
    with pytest.raises(WorkflowError) if name in REFUSED else nullcontext():
        set_gres_string(SimpleNamespace(resources={"gpu": 8, "gpu_model": name}))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        *(
            (f"{{{name}: {value}}}", f"asked: {name}: expected in a config file")
            for name, value in (
                ("hardware", "{gpus: 2}"),
                ("scale", "mine"),
                ("report", "{samples: 3}"),
                ("data_pin", "null"),
            )
        ),
        ("{data: {instructions: {en: [mini_sft_ru]}}}", r"data\.instructions\.en: .* found mini_sft_ru of language ru"),
        ("{data: {validation: {en: [mini_val_ru]}}}", r"data\.validation\.en: .* found mini_val_ru of language ru"),
        ("{seed: 4294967296}", "asked: seed: expected at most 4294967295"),
        ("{seed: '12'}", "asked: seed: expected a whole number, found '12'"),
        ("{seed: true}", "asked: seed: expected a whole number, found true"),
        ("{seed: 017}", "asked: seed: expected a whole number, found '017'"),
        ("{tune: {max_steps: 1:30}}", "asked: tune.max_steps: expected a whole number, found '1:30'"),
        ("{tune: {packing: yes}}", "asked: tune.packing: expected true or false, found 'yes'"),
        ("{tune: {learning_rate: .nan}}", "asked: tune.learning_rate: expected a number, found '.nan'"),
        ("{tune: {learning_rate: 1e9}}", "asked: tune.learning_rate: expected less than or equal to 1"),
        ("{tune: {weight_decay: 1e999}}", "asked: tune.weight_decay: expected a finite number"),
        ("{tune: null}", "asked: tune: expected a mapping, found none"),
        ("{tune: [1]}", "asked: tune: expected a mapping, found a list"),
        (
            "{data: {languages: [yes]}}",
            "asked: data.languages.0: expected a language of parrot/languages.csv, found 'yes'",
        ),
        ("{data: {languages: [en, en]}}", "asked: data.languages: expected every entry once, found 'en' twice"),
        ("{data: {languages: []}}", "asked: data.languages: expected at least one entry"),
        ("{data: {align: ['  ']}}", "asked: data.align: expected a text that is not blank"),
        ("{evaluate: {translator: 12}}", "asked: evaluate.translator: expected a text, found 12; quote it"),
        ("{model: {vision_feature_layer: 77}}", "model.vision_feature_layer: expected -5 to 4, .* 4 layers, found 77$"),
        ("{model: {vision_feature_layer: -99}}", "model.vision_feature_layer: expected -5 to 4, .*, found -99$"),
        ("{model: {vision_tower: clip_vit_large_336, vision_feature_layer: 25}}", "expected -25 to 24, .*, found 25$"),
        *(
            (f"{{model: {{num_experts: 0, {name}: {value}}}}}", f"asked: model.{name}: expected model.num_experts of 1")
            for name, value in (("expert_type", "two_layer"), ("moe_weight", 0.2), ("top_k", 2), ("router", "image"))
        ),
        ("{model: {alpha: 0.5}}", "asked: model.alpha: expected model.residual paper beside it$"),
        ("{model: {residual: paper, moe_weight: 1}}", "model.moe_weight: expected model.residual released beside it$"),
        (
            "{model: {router: image, router_text: user}}",
            "model.router_text: expected model.router text or shuffled_tex",
        ),
    ],
)
def test_values_that_cannot_be_meant_are_one_line(tmp_path: Path, run: str, message: str):
    with pytest.raises(UserError, match=message):
        suite_with(tmp_path, f"asked: {run}\n").run("asked").check()


@pytest.mark.parametrize("layer", [-5, 0, 4])
def test_embeddings_and_every_layer_of_the_encoder_can_be_asked_for(tmp_path: Path, layer: int):
    suite_with(tmp_path, f"asked: {{model: {{vision_feature_layer: {layer}}}}}\n").run("asked").check()


@pytest.mark.parametrize("data", ["{align: [mini_sft_tr]}", "{languages: [en]}"])
def test_caption_sets_may_have_any_language(tmp_path: Path, data: str):
    suite_with(tmp_path, f"asked: {{data: {data}}}\n").run("asked").check()
