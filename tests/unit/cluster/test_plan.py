"""Hours, wall-clock and disk of a plan, against sums done by hand."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from parrot.cli import app as cli
from parrot.cluster.jobs import Job, list_jobs
from parrot.cluster.plan.cost import Costs
from parrot.cluster.plan.disk import disk
from parrot.cluster.plan.facts import Facts, planned_hardware, read_facts
from parrot.cluster.plan.goals import goal_utilisations, implied_utilisations
from parrot.cluster.plan.plan import as_dict, line, make
from parrot.cluster.plan.schedule import wall_clock
from parrot.cluster.plan.text import text
from parrot.config.base import validate
from parrot.config.suite import Suite
from parrot.errors import UserError
from tests.helpers.tiny_plan import tiny_jobs, tiny_suite

# Operations of one of tiny_plan's samples.
VISION = 2 * 4 * 12 + 2 * 5 * (4 * 16 + 2 * 4 * 8) + 2 * (2 * 25 * 4)  # patches, one layer, its attention
PROJECTOR = 2 * 5 * 16  # one layer's product on 5 visual tokens
LINEAR, ATTENTION = 2 * 12 * (4 * 16 + 3 * 32), 2 * (2 * 78 * 4)  # 12 tokens, 78 pairs
HEAD = 2 * 3 * 40  # 3 supervised tokens
ALIGNED = VISION + 5 * PROJECTOR + 2 * LINEAR + 3 * ATTENTION + 2 * HEAD
TUNED = VISION + 5 * PROJECTOR + 3 * LINEAR + 3 * ATTENTION + 3 * HEAD
WITHOUT_IMAGE = 3 * (2 * 7 * 160) + 3 * (2 * 2 * 28 * 4) + 3 * HEAD
ANSWERED = 2 * PROJECTOR + LINEAR + ATTENTION + 2 * 2 * 40  # 11 tokens of prompt, two generated, the last not read
DEVICES = {
    "slow": {"name": "Slow", "half": 1e-12 * 100, "single": 1e-12 * 10, "memory": 24},
    "fast": {"name": "Fast", "half": 1e-12 * 1000, "single": 1e-12 * 100, "memory": 80},
}
RATE = {"device": "slow", "sizes": "small", "date": "2026-11-22", "source": "a bench"}


def facts(**fields) -> Facts:
    return validate(Facts, {"devices": DEVICES, "default": "slow", **fields}, "plan.yaml")


@pytest.fixture
def costs(tmp_path: Path) -> Costs:
    return Costs(tiny_suite(tmp_path), work=tmp_path)


def test_operations_of_both_trainings(costs: Costs):
    stage1 = costs.work(Job("align", costs.suite.run("parrot").stage1_key))
    assert stage1.needed == 100 * ALIGNED
    assert stage1.recomputed == 100 * (LINEAR + ATTENTION)
    # Of the language model: embeddings and head, attention with three biases, MLP, three norms; 12 tokens a sample.
    assert stage1.by_rule_of_thumb == 100 * 8 * 12 * (2 * 40 + 64 + 12 + 96 + 12)
    assert stage1.precision == "bf16"
    stage2 = costs.work(Job("tune", "parrot"))
    assert stage2.needed == 3 * (40 * TUNED + 10 * WITHOUT_IMAGE)  # three times through all 50 samples
    assert stage2.recomputed == 0
    assert (stage2.precision, stage2.estimated) == ("fp32", ("answers", "answers_zh"))


def test_a_frozen_language_model_computes_no_gradients_of_its_weights(tmp_path: Path):
    costs = Costs(tiny_suite(tmp_path, tune={"language_model": "frozen"}), work=tmp_path)
    without_image = 2 * (2 * 7 * 160) + 3 * (2 * 2 * 28 * 4) + 2 * HEAD
    assert costs.work(Job("tune", "parrot")).needed == 3 * (40 * ALIGNED + 10 * without_image)


def test_operations_of_prediction(costs: Costs):
    work = costs.work(Job("predict", "parrot"))
    assert work.needed == 20 * ANSWERED + 5 * VISION  # two languages share the five images
    assert (work.precision, work.estimated, work.unknown) == ("fp32", ("quiz",), ())


def test_a_model_that_is_asked_as_it_is_is_not_counted(costs: Costs):
    work = costs.work(Job("predict", "asked"))
    assert work.needed == 0
    assert work.unknown == ("model none/backbone, evaluated zero-shot",)


@pytest.mark.parametrize("files", [("config/config.yaml",), ("config/config.yaml", "config/paper.yaml")])
def test_every_run_of_the_suite_can_be_planned(files: tuple[str, ...], tmp_path: Path):
    suite, known = Suite.load(files), read_facts()
    every = list_jobs(suite.targets, configfiles=files).jobs
    on = planned_hardware(suite.config.hardware, known)
    made = make(every, suite.targets, Costs(suite, work=tmp_path), known, on)
    assert made.jobs["predict"][1] == len(suite.usable)


def test_hours_on_what_the_config_says(costs: Costs, tmp_path: Path):
    jobs = tiny_jobs(costs.suite, "parrot")
    on = planned_hardware(costs.suite.config.hardware, facts(), at_a_time=4)
    plan = make(jobs, ["parrot"], costs, facts(), on)
    hours = {row.job.rule: row.gpu_hours for row in plan.rows}
    assert hours["align"]["50 %"] == pytest.approx(100 * ALIGNED / (0.5 * 100) / 3600)
    tuned = 3 * (40 * TUNED + 10 * WITHOUT_IMAGE)
    assert hours["tune"]["20 %"] == pytest.approx(tuned / (0.2 * 10) / 3600)  # float32
    assert set(plan.wall_clock) == {"20 %", "30 %", "40 %", "50 %"}
    # Four GPUs train, two of one node predict, one after another.
    chain = 100 * ALIGNED / 100 / 4 + tuned / 10 / 4 + (20 * ANSWERED + 5 * VISION) / 10 / 2
    assert plan.wall_clock["40 %"] == plan.wall_clock_at_once["40 %"] == pytest.approx(chain / 0.4 / 3600)
    assert plan.total["40 %"] == pytest.approx(sum(each["40 %"] for each in hours.values()))


def test_hours_on_a_training_s_gpus_alone(tmp_path: Path):
    costs = Costs(tiny_suite(tmp_path, "parrot: {}\nenglish: {data: {languages: [en]}}\n"), work=tmp_path)
    jobs = tiny_jobs(costs.suite, "parrot", "english")
    plan = make(jobs, [], costs, facts(), planned_hardware(costs.suite.config.hardware, facts(), at_a_time=16))
    hours = {(row.job.rule, row.job.name): row.gpu_hours["50 %"] for row in plan.rows}
    stage1 = next(hours.pop(job) for job in list(hours) if job[0] == "align") / 4
    tuned = [hours.pop(("tune", run)) / 4 for run in ("parrot", "english")]
    asked = list(hours.values())
    assert asked[0] == asked[1]
    # Four GPUs train one run after another, then two predict for each.
    assert plan.wall_clock["50 %"] == pytest.approx(stage1 + sum(tuned) + asked[0] / 2)
    assert plan.wall_clock_at_once["50 %"] == pytest.approx(stage1 + max(tuned) + asked[0] / 2)


def test_measured_rates_take_the_nearest_size(costs: Costs, tmp_path: Path):
    rates = [(rule, size, rate) for rule in ("align", "tune") for size, rate in ((1e-6, 2e-11), (1, 1))]
    measured = [{**RATE, "rule": rule, "parameters": size, "rate": rate} for rule, size, rate in rates]
    known = facts(measured=measured)
    jobs = tiny_jobs(costs.suite, "parrot")
    plan = make(jobs, ["parrot"], costs, known, planned_hardware(costs.suite.config.hardware, known))
    hours = {row.job.rule: row.gpu_hours["measured"] for row in plan.rows}
    assert hours["align"] == pytest.approx(100 * ALIGNED / 20 / 3600)
    assert hours["predict"] == pytest.approx((20 * ANSWERED + 5 * VISION) / (0.4 * 10) / 3600)  # at the usual 40 %
    assert [row.is_measured for row in plan.rows] == [True, True, False]
    assert plan.total["measured"] == pytest.approx(sum(hours.values()))
    assert (
        "measured"
        not in make(jobs, [], costs, known, planned_hardware(costs.suite.config.hardware, known, "fast")).total
    )


def test_the_line_before_submission(costs: Costs, tmp_path: Path):
    on = planned_hardware(costs.suite.config.hardware, facts(), gpu="fast", nodes=1, gpus=1)
    jobs = tiny_jobs(costs.suite, "parrot")
    said = line(jobs, costs, facts(), on)
    hours = (100 * ALIGNED / 1000 + (3 * (40 * TUNED + 10 * WITHOUT_IMAGE) + 20 * ANSWERED + 5 * VISION) / 100) / 0.4
    on_one = f"{round(hours / 3600)} GPU-hours, {round(hours / 3600)} h on 1 GPU alone, "
    assert said == f"plan: 8 jobs (2 trainings), {on_one}at 40 % of Fast's peak (not measured), 0.0 TB disk"
    measured = [{**RATE, "rule": rule, "parameters": 1, "rate": 1e-10} for rule in ("align", "tune", "predict")]
    said = line(jobs, costs, facts(measured=measured), planned_hardware(costs.suite.config.hardware, facts()))
    needed = 100 * ALIGNED + 3 * (40 * TUNED + 10 * WITHOUT_IMAGE) + 20 * ANSWERED + 5 * VISION
    assert f", {round(needed / 100 / 3600)} GPU-hours, " in said
    assert ", at rates measured on Slow, " in said
    measured = measured[:2]
    said = line(jobs, costs, facts(measured=measured), planned_hardware(costs.suite.config.hardware, facts()))
    assert "measured on Slow, others at 40 % of its peak, " in said
    assert "at least 0 GPU-hours" in line([Job("predict", "asked")], costs, facts(), on)


def test_what_is_out_of_date_is_named_with_the_reason(costs: Costs):
    jobs = tiny_jobs(costs.suite, "parrot")
    reasons = {"fetch": "", "align": "", "tune": "settings or code changed", "predict": "after others"}
    jobs = [replace(job, reason=reasons.get(job.rule, "missing")) for job in jobs]
    plan = make(jobs, ["parrot"], costs, facts(), None)
    assert text(plan, facts(), [], [], []).splitlines()[:4] == [
        "parrot at the tiny scale: 6 jobs (1 training) to do, 2 done",
        "  tune 1, predict 1, score 1, by_target 1, predictions_page 1, track_target 1",
        "  Out of date, settings or code changed: tune parrot",
        "  Finished, but after jobs that are to do: 1",
    ]
    assert as_dict(plan, [], [], [])["to_do"][0] == {
        "rule": "tune",
        "name": "parrot",
        "reason": "settings or code changed",
    }


def test_disk(costs: Costs, tmp_path: Path):
    found = disk(costs, tiny_jobs(costs.suite, "parrot"), at_a_time=1)
    language = 2 * 40 + 64 + 12 + 96 + 12
    vision = 12 + 4 + 20 + 8 + 8 + 2 * (4 * 20 + 40 + 36 + 16)  # patches, class, positions, norms, two layers
    projector = 2 * (16 + 4)
    assert found.data == 3 * 10**9 + 2 * (language + vision)
    assert found.tokenised == 8 * (100 * 12 + 40 * 12 + 10 * 7)
    assert found.features == 0
    assert found.checkpoints == 3 * (4 + 8) * (language + projector)  # stage 2's, the larger one
    assert found.models == 4 * projector + 4 * (language + vision + projector)
    assert disk(costs, [], at_a_time=1).total == 0


def test_features_that_are_kept_take_disk(tmp_path: Path):
    costs = Costs(tiny_suite(tmp_path, hardware={"align": {"features": "disk"}}), work=tmp_path)
    stage1 = [job for job in tiny_jobs(costs.suite, "parrot") if job.rule == "align"]
    assert disk(costs, stage1, at_a_time=1).features == 100 * 5 * 4 * 2


@pytest.mark.parametrize(("at_a_time", "hours"), [(1, 10), (2, 6), (3, 6)])
def test_wall_clock(at_a_time: int, hours: float):
    a = Job("tune", "a")
    b, c, d = Job("tune", "b", (a,)), Job("tune", "c", (a,)), Job("tune", "d", (a, Job("fetch", "done")))
    assert wall_clock([a, b, c, d], {a: 2.0, b: 4.0, c: 3.0, d: 1.0}, at_a_time) == hours  # d fits behind c, beside b


@pytest.mark.parametrize(("of", "hours"), [(4, 9), (6, 8), (7, 6)])
def test_wall_clock_on_so_many_gpus(of: int, hours: float):
    a = Job("tune", "a")
    b, c, d = (Job("tune", name, (a,)) for name in "bcd")
    # Behind a: all in turn; b, then both others; b and c, then d before b ends.
    assert wall_clock([a, b, c, d], {a: 2.0, b: 4.0, c: 2.0, d: 1.0}, 16, {a: 4, b: 4, c: 3, d: 3}, of) == hours


def test_the_longest_chain_starts_first():
    short, first = Job("tune", "short"), Job("tune", "first")
    jobs = [short, first, second := Job("tune", "second", (first,))]
    assert wall_clock(jobs, {short: 2.0, first: 1.0, second: 3.0}, 1) == 6
    assert wall_clock(jobs, {short: 2.0, first: 1.0, second: 3.0}, 2) == 4
    assert wall_clock(jobs, {}, 1) == 0


def test_devices_by_slurm_s_names():
    known = read_facts()
    assert known.device("NVIDIA_H100_80GB_HBM3") == "h100"
    assert known.device("RTX 4090") == "rtx4090"
    with pytest.raises(UserError, match=r"^unknown GPU b200; config/plan\.yaml has v100, rtx4090, "):
        known.device("b200")
    with pytest.raises(UserError, match=r"^plan\.yaml: \(whole\): .*unknown device k80"):
        facts(default="k80")


def test_without_gpus_there_are_no_hours(tmp_path: Path):
    hardware = tiny_suite(tmp_path, hardware={"gpus": 0}).config.hardware
    assert planned_hardware(hardware, facts()) is None
    assert planned_hardware(hardware, facts(), gpu="fast") == ("fast", 2, 1, 1)
    stand_ins = tiny_suite(tmp_path, hardware={"device": "cpu"}).config.hardware
    assert planned_hardware(stand_ins, facts()) is None


def run(monkeypatch, capsys, *arguments: str) -> tuple[str, str]:
    monkeypatch.setattr(sys, "argv", ["parrot", "plan", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    output = capsys.readouterr()
    return output.out, output.err


def test_the_paper_s_model(monkeypatch, capsys):
    out, err = run(monkeypatch, capsys, "parrot", "--profile", "slurm", "--gpu", "a100", "--nodes", "2")
    assert err == ""
    assert max(map(len, out.splitlines())) <= 120
    assert "Hardware: 2 nodes x 8 A100 per training and 8 per prediction, 16 jobs at a time." in out
    assert re.search(
        r"^  hours on 16 GPUs alone( +[\d.]+){4}\n  hours, 16 jobs at once( +[\d.]+){4}$", out, re.MULTILINE
    )
    assert "Not measured on this device" in out


def test_the_paper_s_training_on_all_its_captions(tmp_path: Path):
    suite = Suite.load(("config/config.yaml", "config/paper.yaml"))
    for name in ("laion_caption", "cc12m_caption"):  # as if somebody held them
        suite.datasets[name] = suite.datasets[name].model_copy(update={"source": "local"})
    run = suite.run("parrot_all_captions")
    jobs, known, costs = (
        [Job("align", run.stage1_key or ""), Job("tune", run.name)],
        read_facts(),
        Costs(suite, tmp_path),
    )
    (held,), (aim,) = implied_utilisations(jobs, costs, known), goal_utilisations(jobs, costs, known)
    # 1.215 M samples of about 630 tokens, 4 operations a parameter; 0.793 M of about 780, 6; 16 x 21 h of 312 TFLOP/s.
    assert held.needed == pytest.approx(0.13, abs=0.015)
    assert held.with_recomputation == pytest.approx(0.18, abs=0.015)
    assert held.by_rule_of_thumb == pytest.approx(0.23, abs=0.015)
    assert aim.utilisation == pytest.approx(held.operations / (45 * 3600 * 989e12))
    assert aim.measured_gpu_hours is None


def test_an_unknown_target_is_one_line(monkeypatch, capsys):
    out, err = run(monkeypatch, capsys, "parot")
    assert out == ""
    assert err.startswith("parrot: error: unknown target parot; did you mean parrot?")
    assert err.count("\n") == 1
