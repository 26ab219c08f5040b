"""The page of a run's answers: what it holds, and in a browser what its filters find."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration, list_file
from parrot.config.settings import Conventions
from parrot.config.stages import ScoreSettings
from parrot.constants import PAPER_LANGUAGES
from parrot.data.tsv import Rejection, image_id, read_tsv, write_list, write_tsv
from parrot.errors import UserError
from parrot.evaluate.graded_csv import placed, write_graded
from parrot.evaluate.judge import Ratings
from parrot.evaluate.kinds import read_rows
from parrot.evaluate.kinds.judged import rated
from parrot.evaluate.score import score
from parrot.report import browse
from parrot.report.browse import choose, read_browse_rows, thumbnails
from parrot.report.settings import BrowseStage
from tests.helpers import tiny_results
from tests.helpers.rendered import rendered
from tests.helpers.tiny_manifest import sign

# 16 questions in six languages: MMMB under three controls, MMBench_dev under one.
TOTAL = 16 * 6 * (3 + 1)
HOSTILE = (
    """</script><script>document.title = 'owned'</script><img src=x onerror="document.title = 'owned'"> <!--<script>"""
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browse")
    tiny_results.make(root)
    return root


@pytest.fixture(scope="module")
def settings(root: Path) -> BrowseStage:
    return BrowseStage(
        run="parrot",
        scale="tiny",
        seed=0,
        benchmarks=tiny_results.benchmarks(root),
        controls=("none", "shuffled", "text"),
        rows=TOTAL,
    )


def graded(settings: BrowseStage, predictions: Path) -> Path:
    """The grades of a folder of predictions."""
    names = ("run", "seed", "benchmarks", "controls", *Conventions.model_fields)
    stage = ScoreSettings(resamples=1, **{name: getattr(settings, name) for name in names})
    score(stage, predictions, None, predictions / "grades/scores.csv")
    return predictions / "grades/graded.csv"


def write(settings: BrowseStage, predictions: Path, page: Path) -> None:
    browse.write(settings, predictions, graded(settings, predictions), page)


@pytest.fixture(scope="module")
def page(root: Path, settings: BrowseStage) -> Path:
    write(settings, root / "results/parrot/predictions", root / "predictions.html")
    return root / "predictions.html"


class Elements(HTMLParser):
    """A document's start tags with their attributes, and the texts by tag, class and id; templates are left out."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._named: list[str] = []
        self.feed(re.sub(r"<template.*?</template>", "", text, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        self._named = [name for name in (tag, given.get("class"), given.get("id")) if name]
        for name in self._named:
            self.texts.setdefault(name, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._named = []

    def handle_data(self, data: str) -> None:
        for name in self._named:
            self.texts[name][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [given for name, given in self.tags if name == tag]


def embedded(page: Path) -> dict:
    text = page.read_text(encoding="utf-8").split('<script type="application/json" id="data">')[1]
    return json.loads(text.split("</script>")[0])


def driven(page: Path, script: str, folder: Path) -> str:
    """The document after `script` has run in a copy of the page that lets it."""
    text, policies = re.subn(r"<meta http-equiv=.*?>", "", page.read_text(encoding="utf-8"))
    assert policies == 1
    copy = folder / "driven.html"
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return rendered(copy.as_uri())


STEPS = """
const seen = [];
function set(name, value) {
  const field = document.querySelector(`form [name=${name}]`);
  field.value = value;
  for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
  see();
}
function see() {
  const text = (id) => document.getElementById(id).textContent;
  seen.push([text("count"), text("page"), document.querySelectorAll("article").length]);
}
function press(id) { document.getElementById(id).click(); see(); }
see();
press("next");
press("previous");
press("previous");
set("benchmark", "MMMB");
set("control", "none");
set("language", "ar");
set("outcome", "wrong");
set("outcome", "unmatched");
set("outcome", "");
set("category", "fine_naming");
set("text", "SHIP");
set("text", "nothing says this");
press("all");
const told = document.createElement("pre");
told.id = "seen";
told.textContent = JSON.stringify(seen);
document.body.append(told);
"""


@pytest.mark.browser
def test_filters_count_and_pages_turn(page: Path, tmp_path: Path) -> None:
    seen = json.loads(Elements(driven(page, STEPS, tmp_path)).texts["seen"][0])
    # In English all answers are right; else 12 of 16 with the image, 2 with a wrong one, 14 in words.
    mmmb, mmbench = (16 + 5 * 12) + 6 * 2 + 6 * 14, 16 + 5 * 12
    everything = f"{TOTAL} of {TOTAL} predictions, {mmmb + mmbench} right ({100 * (mmmb + mmbench) / TOTAL:.1f} %)"
    assert seen == [
        [everything, "page 1 of 16", 24],
        [everything, "page 2 of 16", 24],
        [everything, "page 1 of 16", 24],
        [everything, "page 1 of 16", 24],
        [f"288 of {TOTAL} predictions, {mmmb} right ({100 * mmmb / 288:.1f} %)", "page 1 of 12", 24],
        [f"96 of {TOTAL} predictions, 76 right (79.2 %)", "page 1 of 4", 24],
        [f"16 of {TOTAL} predictions, 12 right (75.0 %)", "page 1 of 1", 16],
        [f"4 of {TOTAL} predictions, 0 right (0.0 %)", "page 1 of 1", 4],
        [f"2 of {TOTAL} predictions, 0 right (0.0 %)", "page 1 of 1", 2],
        [f"16 of {TOTAL} predictions, 12 right (75.0 %)", "page 1 of 1", 16],
        [f"8 of {TOTAL} predictions, 4 right (50.0 %)", "page 1 of 1", 8],
        # The last question of each image source is answered in English.
        [f"2 of {TOTAL} predictions, 0 right (0.0 %)", "page 1 of 1", 2],
        [f"0 of {TOTAL} predictions, 0 right", "page 1 of 1", 0],
        [everything, "page 1 of 16", 24],
    ]


@pytest.mark.browser
def test_a_view_opens_by_its_address_and_arabic_runs_right_to_left(page: Path) -> None:
    address = f"{page.as_uri()}#benchmark=MMMB&control=none&language=ar&outcome=unmatched&image_source=nobody"
    shown = Elements(rendered(address))
    assert shown.texts["count"] == [f"2 of {TOTAL} predictions, 0 right (0.0 %)"]
    asked = [given for given in shown.all("div") if given.get("class") == "prompt"]
    assert [(given["lang"], given["dir"]) for given in asked] == [("ar", "rtl")] * 2
    assert shown.texts["question"] == [tiny_results.QUESTIONS["ar"]] * 2
    alts = [given["alt"] for given in shown.all("img")]
    assert alts == [tiny_results.NAMES["ar"][7]] * 2
    weights = "Router weights of experts 1 to 2: 40, 60 per cent"
    assert [given.get("aria-label") for given in shown.all("div") if given.get("class") == "experts"] == [weights] * 2


LETTER = """
const field = document.querySelector("form [name=language]");
const told = document.createElement("pre");
told.id = "seen";
function left(text, at) {
  const range = document.createRange();
  range.setStart(text, at);
  range.setEnd(text, at + 1);
  return range.getBoundingClientRect().left;
}
for (const language of ["ar", "tr"]) {
  field.value = language;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  const text = document.querySelector("li").firstChild;
  told.textContent += `${text.textContent}${left(text, 1) < left(text, 0)} `;
}
document.body.append(told);
"""


@pytest.mark.browser
def test_the_point_follows_an_options_letter_in_the_direction_of_the_line(page: Path, tmp_path: Path) -> None:
    assert Elements(driven(page, LETTER, tmp_path)).texts["seen"] == ["A. true A. false "]


@pytest.mark.browser
def test_translated_questions_run_as_english_does(root: Path, settings: BrowseStage, tmp_path: Path) -> None:
    stage = settings.model_copy(update={"translator": "parallel_rows"})
    write(stage, root / "results/parrot/predictions", tmp_path / "page.html")
    shown = Elements(rendered(f"{(tmp_path / 'page.html').as_uri()}#language=ar&control=none&category=naming"))
    asked = [given for given in shown.all("div") if given.get("class") == "prompt"]
    assert {(given["lang"], given["dir"]) for given in asked} == {("en", "ltr")}
    assert len([text for text in shown.texts["label"] if "Arabic" in text and "translated" in text]) == len(asked) == 16


@pytest.mark.browser
def test_texts_are_shown_as_they_are_whatever_they_hold(root: Path, settings: BrowseStage, tmp_path: Path) -> None:
    folder = tmp_path / "predictions"
    shutil.copytree(root / "results/parrot/predictions", folder)
    table = read_tsv(folder / "MMMB_en.tsv")
    for column in ("question", "hint", "A", "prediction", "category", "image_source", "image_text"):
        table.loc[0, column] = HOSTILE
    write_tsv(table, folder / "MMMB_en.tsv")
    sign(folder, *settings.benchmarks)
    write(settings, folder, tmp_path / "predictions.html")
    # The page's policy would stop a script; that none is made must hold without it.
    shown = Elements(driven(tmp_path / "predictions.html", "", tmp_path))
    assert shown.texts["title"] == ["Predictions of parrot, tiny scale"]
    assert len(shown.all("script")) == 3
    assert all((given.get("src") or "").startswith("data:image/webp;base64,") for given in shown.all("img"))
    assert HOSTILE in shown.texts["question"]
    assert HOSTILE in shown.texts["hint"]
    # An option, the answer, and the filters' words.
    assert Counter(shown.texts["bdi"])[HOSTILE] == 2
    assert Counter(shown.texts["option"])[HOSTILE] == 2
    assert [given["alt"] for given in shown.all("img")].count(HOSTILE) == 1


def test_the_page_asks_nothing_of_the_network_and_labels_its_fields(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    elements = Elements(text)
    assert not [given for _, given in elements.tags if {"src", "href", "action"} & given.keys()]
    assert "://" not in re.sub(r'"data:image[^"]*"', "", text)
    (policy,) = [given["content"] for given in elements.all("meta") if "http-equiv" in given]
    assert policy.startswith("default-src 'none'; img-src data:;")
    fields = re.findall(r"<(?:select|input)", text)
    assert len(fields) == len(re.findall(r"<label>[^<]+\n<(?:select|input)", text)) == 7
    for words in (
        "All 384 predictions.",
        "matcher <code>current</code>",
        "postprocess <code>vlmevalkit</code>",
        "MMBench_dev counts alone",
    ):
        assert words in text


def test_a_control_shows_what_the_model_was_shown(page: Path, root: Path) -> None:
    rows = [row for row in embedded(page)["rows"] if row["benchmark"] == "MMMB" and row["language"] == "tr"]
    first = {row["control"]: row for row in rows if row["index"] == 10}
    table = read_tsv(root / "results/parrot/predictions/MMMB_tr.tsv")
    ids = dict(zip(table["index"], table["image_sha256"], strict=True))
    assert {control: row["image"] for control, row in first.items()} == {
        "none": ids["10"], "shuffled": ids["11"], "text": "",
    }  # fmt: skip
    assert [first[control]["scene"] for control in ("none", "shuffled", "text")] == ["kedi", "köpek", "kedi"]


def test_every_image_is_there_once_and_small(page: Path, root: Path, settings: BrowseStage, tmp_path: Path) -> None:
    assert len(embedded(page)["images"]) == 16
    assert page.read_text(encoding="utf-8").count("data:image/") == 16
    out = io.BytesIO()
    Image.effect_noise((1200, 600), 90).convert("RGB").save(out, format="PNG")
    large = base64.b64encode(out.getvalue()).decode()
    row = {"index": "0", "question": "?", "A": "a", "B": "b", "answer": "A", "image": large}
    write_tsv(pd.DataFrame([row], dtype=str), tmp_path / "large.tsv")
    benchmark = settings.benchmarks[0].model_copy(update={"folder": str(tmp_path), "files": {"en": "large.tsv"}})
    (uri,) = thumbnails(benchmark, {image_id(large)}).values()
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,")))) as image:
        assert image.size == (192, 96)
    assert len(uri) < 40_000 < len(large)


def test_a_bounded_page_shows_whole_questions_the_same_for_every_run(
    root: Path, settings: BrowseStage, tmp_path: Path
) -> None:
    few = settings.model_copy(update={"rows": 100})
    kept = []
    for run in ("parrot", "english"):
        write(few.model_copy(update={"run": run}), root / f"results/{run}/predictions", tmp_path / f"{run}.html")
        rows = embedded(tmp_path / f"{run}.html")["rows"]
        assert f"<b>{len(rows)} of 384 predictions</b>" in (tmp_path / f"{run}.html").read_text(encoding="utf-8")
        assert 100 - 18 < len(rows) <= 100
        kept.append([(row["benchmark"], row["language"], row["control"], row["index"]) for row in rows])
    assert kept[0] == kept[1]
    # Drawn from all, not cut off.
    assert {benchmark for benchmark, _, _, _ in kept[0]} == {"MMMB", "MMBench_dev"}
    assert {index // 10 for _, _, _, index in kept[0]} == {0, 1}
    sizes = Counter((benchmark, index) for benchmark, _, _, index in kept[0])
    assert all(
        size == {"MMMB": 3, "MMBench_dev": 1}[benchmark] * len(PAPER_LANGUAGES)
        for (benchmark, _), size in sizes.items()
    )


def test_the_rotations_of_a_question_are_chosen_together(root: Path, settings: BrowseStage, tmp_path: Path) -> None:
    for path in (root / "results/parrot/predictions").glob("MMBench_dev_*.tsv"):
        table = read_tsv(path)
        rotated = table.assign(index=[str(int(index) + 1_000_000) for index in table["index"]])
        write_tsv(pd.concat([table, rotated]), tmp_path / path.name)
    sign(tmp_path, *settings.benchmarks)
    stage = settings.model_copy(update={"benchmarks": settings.benchmarks[1:]})
    answers = read_browse_rows(stage, tmp_path, graded(stage, tmp_path))
    chosen = choose(answers, 50)
    assert len(chosen) == 48
    for number in {answer.index % 1_000_000 for answer in chosen}:
        assert {(a.index, a.language) for a in chosen if a.index % 1_000_000 == number} == {
            (index, language) for index in (number, number + 1_000_000) for language in PAPER_LANGUAGES
        }
    # One question is always shown.
    assert len(choose(answers, 1)) == 12


def test_equal_answers_give_equal_bytes(root: Path, settings: BrowseStage, page: Path, tmp_path: Path) -> None:
    write(settings, root / "results/parrot/predictions", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("router_weights", "[0.5, NaN]", r"MMMB_en\.tsv: router_weights: 0"),
        ("router_weights", "[0.5,", r"MMMB_en\.tsv: router_weights: 0"),
        ("image_sha256", "0123456789ab", r"benchmarks: image 0123456789ab: expected in a file of MMMB"),
    ],
)
def test_what_does_not_fit_is_named(
    root: Path, settings: BrowseStage, tmp_path: Path, column: str, value: str, message: str
) -> None:
    shutil.copytree(root / "results/parrot/predictions", tmp_path / "predictions")
    table = read_tsv(tmp_path / "predictions/MMMB_en.tsv")
    table.loc[0, column] = value
    write_tsv(table, tmp_path / "predictions/MMMB_en.tsv")
    sign(tmp_path / "predictions", *settings.benchmarks)
    with pytest.raises(UserError, match=message):
        write(settings, tmp_path / "predictions", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.browser
def test_questions_without_options_show_their_answer_and_rated_ones_are_not_right_or_wrong(
    settings: BrowseStage, tmp_path: Path
) -> None:
    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, format="PNG")
    image = base64.b64encode(small.getvalue()).decode()
    rows = [
        {"index": str(index), "question": "Is it a cat?", "hint": "", "answer": "Yes", "category": "existence",
         "caption": "A cat.", "gpt4_ans": "It is a cat.", "image": image}
        for index in range(3)
    ]  # fmt: skip
    files = {"yes": rows, "free": rows[:1]}
    for stem, some in files.items():
        table = pd.DataFrame(some, dtype=str)
        write_tsv(table, tmp_path / f"{stem}.tsv")
        said = ["Yes, it is.", "No.", "A dog."][: len(table)]
        told = table.drop(columns="image").assign(image_sha256=image_id(image), prediction=said)
        write_tsv(told.assign(prompt_sha256="0", router_weights="[]"), tmp_path / f"predictions/{stem}.tsv")
    yes_no = Benchmark(
        name="YesNo",
        folder=str(tmp_path),
        files={"en": "yes.tsv"},
        kind="yes_no",
        scoring="vanilla",
        generation=BenchmarkGeneration(max_new_tokens=8),
    )
    free = yes_no.model_copy(
        update={"name": "Free", "files": {"en": "free.tsv"}, "kind": "judged", "scoring": "relative"}
    )
    sign(tmp_path / "predictions", yes_no, free)
    stage = settings.model_copy(update={"benchmarks": (yes_no, free), "controls": ("none",)})
    grades = [
        placed(read_rows(yes_no, tmp_path / "predictions", stage), yes_no, "none"),
        placed(rated(read_tsv(tmp_path / "predictions/free.tsv"), "en", [Ratings(9, 8)]), free, "none"),
    ]
    write_graded([rows.assign(run="parrot") for rows in grades], tmp_path / "graded.csv")
    browse.write(stage, tmp_path / "predictions", tmp_path / "graded.csv", tmp_path / "page.html")
    found = [row["outcome"] for row in embedded(tmp_path / "page.html")["rows"]]
    assert found == ["right", "wrong", "unmatched", "judged"]
    shown = Elements(rendered((tmp_path / "page.html").as_uri()))
    assert shown.texts["count"] == ["4 of 4 predictions, 1 right (33.3 %)"]
    assert shown.texts["note"] == ["(right answer)"] * 3 + ["(reference answer)"]
    assert "experts" not in shown.texts


def test_rows_that_were_not_asked_are_counted_and_may_still_be_shown_by_others(
    root: Path, settings: BrowseStage, tmp_path: Path
) -> None:
    shutil.copytree(root / "results/parrot/predictions", tmp_path / "predictions")
    path = tmp_path / "predictions/MMMB_en.shuffled.tsv"
    table = read_tsv(path)
    write_tsv(table.drop(index=1), path)
    write_list([Rejection(1, "1", "shuffled: expected the index of another row")], list_file(path))
    sign(tmp_path / "predictions", *settings.benchmarks)
    write(settings, tmp_path / "predictions", tmp_path / "page.html")
    assert "Rows that could not be predicted: 1;" in (tmp_path / "page.html").read_text(encoding="utf-8")
    rows = embedded(tmp_path / "page.html")["rows"]
    assert len(rows) == TOTAL - 1
    # Question 0 was asked with the image of question 1.
    images = {(row["control"], row["index"]): row["image"] for row in rows if row["language"] == "en"}
    assert images["shuffled", 0] == images["none", 1]


def test_a_wrong_image_that_is_nowhere_is_named(root: Path, settings: BrowseStage, tmp_path: Path) -> None:
    shutil.copytree(root / "results/parrot/predictions", tmp_path / "predictions")
    table = read_tsv(tmp_path / "predictions/MMMB_en.shuffled.tsv")
    table.loc[0, "shuffled"] = "99"
    write_tsv(table, tmp_path / "predictions/MMMB_en.shuffled.tsv")
    sign(tmp_path / "predictions", *settings.benchmarks)
    with pytest.raises(UserError, match=r"MMMB_en\.shuffled\.tsv: row 0: shuffled: expected the index of another row"):
        write(settings, tmp_path / "predictions", tmp_path / "page.html")


def test_grades_of_other_predictions_are_refused(root: Path, settings: BrowseStage, tmp_path: Path) -> None:
    shutil.copytree(root / "results/parrot", tmp_path / "parrot")
    predictions = tmp_path / "parrot/predictions"
    table = read_tsv(predictions / "MMMB_en.tsv")
    table.loc[0, "prediction"] = "something else"
    write_tsv(table, predictions / "MMMB_en.tsv")
    sign(predictions, *settings.benchmarks)
    with pytest.raises(UserError, match=r"graded\.csv: parrot, MMMB, en, none: grades other predictions than there"):
        browse.write(settings, predictions, tmp_path / "parrot/graded.csv", tmp_path / "page.html")
