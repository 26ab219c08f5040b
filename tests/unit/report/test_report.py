"""From scores and predictions to tables, figures and the page."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from parrot.config.settings import Conventions
from parrot.config.staleness import canonical
from parrot.config.suite import Suite
from parrot.evaluate.scores_csv import read_scores
from parrot.report import labels
from parrot.report.build import build
from parrot.report.figures import draw
from parrot.report.settings import ReportedRun, ReportItem, ReportStage, report_stage
from tests.helpers import tiny_results


@pytest.fixture(scope="module")
def settings_and_root(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportStage, Path]:
    root = tmp_path_factory.mktemp("report")
    return tiny_results.make(root), root


@pytest.fixture(scope="module")
def built(settings_and_root: tuple[ReportStage, Path]) -> Path:
    """A folder with ``results/`` and the report of them in ``out/``."""
    settings, root = settings_and_root
    build(settings, tiny_results.score_files(root), root / "results", root / "out")
    return root


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cell(path: Path, **where: str) -> dict[str, str]:
    found = [row for row in table(path) if all(row[key] == value for key, value in where.items())]
    assert len(found) == 1
    return found[0]


def test_the_report_writes_exactly_what_it_declares(built: Path) -> None:
    written = {str(path.relative_to(built / "out")) for path in (built / "out").rglob("*") if path.is_file()}
    tables = {
        f"tables/{n}.{s}"
        for n in ("primary", "table1", "controls", "kinds", "l2_categories", "splits", "differences", "router")
        for s in ("csv", "md", "tex")
    }
    figures = {f"figures/{name}.{suffix}" for name in ("fig7a", "fig7c", "losses") for suffix in ("png", "svg")}
    assert written == tables | figures | {"report.html"}


def test_a_run_says_how_its_language_model_was_tuned() -> None:
    labels = [report_stage(Suite.load(), name).runs[0].label for name in ("parrot", "lora", "frozen_llm")]
    whole = "6 languages, 6 experts"
    assert labels == [whole, f"{whole}, LoRA", f"{whole}, language model frozen"]


def test_a_model_asked_as_it_is_stands_beside_trained_ones(tmp_path: Path) -> None:
    settings = tiny_results.make(tmp_path)
    tiny_results.add_asked(tmp_path)
    scores = [*tiny_results.score_files(tmp_path), tmp_path / "results/asked/scores.csv"]
    asked = settings.model_copy(update={"runs": (*settings.runs, tiny_results.ASKED)})
    build(asked, scores, tmp_path / "results", tmp_path / "out")
    where = {"image_source": "twemoji", "benchmark": "MMMB", "language": "ru"}
    assert cell(tmp_path / "out/tables/table1.csv", run="asked", **where)["value"] == "25.0000"
    assert "| asked (some/model, as pretrained)" in (tmp_path / "out/tables/table1.md").read_text(encoding="utf-8")
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "stage 2 of english" in page
    assert "stage 2 of asked" not in page
    alone = settings.model_copy(update={"runs": (tiny_results.ASKED,)})
    build(alone, scores[-1:], tmp_path / "results", tmp_path / "alone")
    assert "None of these runs was trained." in (tmp_path / "alone/report.html").read_text(encoding="utf-8")


def test_table1_has_every_run_language_and_image_source_once_with_its_known_accuracy(built: Path) -> None:
    rows = table(built / "out/tables/table1.csv")
    assert len(rows) == 2 * 3 * 2 * 7
    known = {"parrot": 75.0, "no_experts": 62.5, "english": 25.0}
    for row in rows:
        assert float(row["value"]) == (100.0 if row["language"] == "en" else known[row["run"]])
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
    assert {row["image_source"] for row in rows} == {"twemoji", "openmoji"}


def test_controls_tell_seeing_from_guessing_and_count_other_languages(built: Path) -> None:
    path = built / "out/tables/controls.csv"
    where = {"image_source": "twemoji", "run": "parrot", "language": "ru"}
    assert float(cell(path, **where, measure="none")["value"]) == 75.0
    assert float(cell(path, **where, measure="shuffled")["value"]) == 12.5
    assert float(cell(path, **where, measure="text")["value"]) == 87.5
    assert float(cell(path, **where, measure="other_language")["value"]) == 12.5
    before = cell(path, image_source="twemoji", run=f"align/{tiny_results.KEY}", language="ru", measure="text_before")
    assert float(before["value"]) == 50.0


def test_kinds_split_by_category_difficulty_and_unseen_concepts(built: Path) -> None:
    path = built / "out/tables/kinds.csv"
    where = {"image_source": "openmoji", "run": "parrot", "language": "tr"}
    assert float(cell(path, **where, kind="naming")["value"]) == 100.0
    assert float(cell(path, **where, kind="fine_naming")["value"]) == 50.0
    assert float(cell(path, **where, kind="unseen_in_language")["value"]) == 0.0
    # Every concept is seen in English.
    assert cell(path, image_source="openmoji", run="parrot", language="en", kind="unseen_in_language")["value"] == ""


def test_a_table_by_ability_or_split_names_what_it_divides_by(built: Path) -> None:
    path = built / "out/tables/l2_categories.csv"
    where = {"image_source": "twemoji", "run": "parrot", "benchmark": "MMMB", "language": "tr"}
    assert float(cell(path, **where, **{"l2-category": "recognition"})["value"]) == 75.0
    assert table(built / "out/tables/splits.csv") == []
    assert "None of these benchmarks has more than one split." in (built / "out/tables/splits.md").read_text()


def test_every_table_says_how_it_counts_and_by_which_conventions(built: Path) -> None:
    for name in ("primary", "table1", "controls", "kinds", "l2_categories", "differences"):
        for row in table(built / f"out/tables/{name}.csv"):
            assert row["scoring"] == {"MMMB": "vanilla", "MMBench_dev": "circular"}[row["benchmark"]]
            conventions = [row[c] for c in ("matcher", "prompt_language", "postprocess", "missing_values")]
            assert conventions == ["current", "dataset", "vlmevalkit", "strings"]
        text = (built / f"out/tables/{name}.md").read_text()
        assert "prompt_language dataset" in text
        assert re.search("MMMB.* \\(vanilla\\)", text)
    page = (built / "out/report.html").read_text()
    assert page.count("prompt_language dataset") == 9
    assert "prompt_language dataset" in (built / "out/tables/router.md").read_text()


def test_conventions_that_differ_are_told_run_by_run() -> None:
    group = ReportedRun(
        name="group",
        languages=("en",),
        num_experts=0,
        stage1_key="k",
        benchmarks=("MMMB",),
        seed=0,
        recipe_key="d",
        conventions=Conventions(prompt_language="group", matcher="may2024"),
    )
    settings = report_stage(Suite.load()).model_copy(update={"runs": (*tiny_results.RUNS, group)})
    item = settings.items["table1"]
    told = labels.conventions(item, settings)
    assert told["prompt_language"] == "dataset (parrot, no_experts, english); group (group)"
    assert told["postprocess"] == "vlmevalkit"
    assert "matcher current (parrot, no_experts, english); may2024 (group)," in labels.followed(item, settings)


def test_a_benchmark_with_a_prompt_language_of_its_own_is_named() -> None:
    settings = report_stage(Suite.load())
    own = settings.benchmarks[0].model_copy(update={"prompt_language": "group"})
    settings = settings.model_copy(update={"benchmarks": (own, *settings.benchmarks[1:])})
    both = settings.items["table1"].model_copy(update={"benchmarks": ("MMMB", "MMBench_dev")})
    alone = both.model_copy(update={"benchmarks": ("MMMB",)})
    assert labels.conventions(both, settings)["prompt_language"] == "dataset; group for mini-MMMB"
    assert labels.conventions(alone, settings)["prompt_language"] == "group for mini-MMMB"


def test_groups_that_lack_rotations_are_told_below_the_table(built: Path) -> None:
    # The tiny circular benchmark has the first rotation of each question and no other.
    note = (built / "out/tables/table1.md").read_text().split("\n\n")[1]
    assert "MMBench_dev in zh: 16 groups lack a rotation and count by the others." in note
    assert "MMMB in" not in note


def test_readers_see_a_benchmark_by_its_title_everywhere(
    settings_and_root: tuple[ReportStage, Path], built: Path
) -> None:
    pages = [path for path in (built / "out").rglob("*") if path.suffix in (".md", ".tex", ".html")]
    for path in pages:
        ours = path.read_text(encoding="utf-8").split('<section class="published"')[0]
        found = re.findall(r"(?:[\w-]+-)?(?:MMMB|MMBench)", re.sub(r"base64,[^\"]+", "", ours))
        assert set(found) <= {"tiny-MMMB", "tiny-MMBench"}, path
    assert len(pages) == 2 * 8 + 1
    assert {row["benchmark"] for row in table(built / "out/tables/table1.csv")} == {"MMMB", "MMBench_dev"}
    settings, root = settings_and_root
    scores = read_scores(tiny_results.score_files(root))
    figure, _ = draw(settings.items["fig7a"], settings, scores, root / "results")
    assert "tiny-MMBench_dev (circular)" in figure.axes[0].get_title(loc="left")


def test_differences_are_paired_and_carry_a_detectable_effect(built: Path) -> None:
    path = built / "out/tables/differences.csv"
    where = {"image_source": "twemoji", "benchmark": "MMMB", "comparison": "parrot minus english"}
    found = cell(path, **where, language="non_english", measure="difference")
    assert float(found["value"]) == 50.0
    assert 0 < float(found["low"]) <= 50.0 <= float(found["high"]) <= 100
    assert float(cell(path, **where, language="non_english", measure="detectable")["value"]) > 0
    assert float(cell(path, **where, language="en", measure="difference")["value"]) == 0.0


def test_p_is_exact_where_it_may_be_and_adjusted_for_the_whole_table(built: Path) -> None:
    rows = [row for row in table(built / "out/tables/differences.csv") if row["measure"] == "p_holm"]
    assert len(rows) == 2 * 2 * 2 * 7
    found = {(r["image_source"], r["comparison"], r["benchmark"], r["language"]): r["value"] for r in rows}
    # Four of eight questions that only parrot gets, none that only english does: exact p 2 / 2**4, times 56 claims.
    assert float(found["twemoji", "parrot minus english", "MMMB", "zh"]) == 1.0
    # All five languages are right or wrong together, about 8 images; the least p of the table is multiplied by 56.
    pooled = [
        float(p) for (_, pair, _, language), p in found.items() if language == "non_english" and "english" in pair
    ]
    assert 0 < min(pooled) < 1
    text = (built / "out/tables/differences.md").read_text()
    assert "adjusted by Holm for the 56 comparisons of this table, apart from the primary contrast. Runs at" in text
    lines = [line for line in text.splitlines() if line.startswith("|") and "p, adjusted" in line]
    # Each language's p is marked as exact, the pooled one is not.
    assert len(lines) == 8
    assert all(line.count("†") == 6 and not line.rstrip(" |").endswith("†") for line in lines)


def test_runs_that_differ_in_their_seed_are_pooled_and_compared_by_their_means(tmp_path: Path) -> None:
    settings = tiny_results.make(tmp_path)
    # What no_experts answered stands for a second seed of parrot: 75 and 62.5 per cent outside English.
    runs = [
        run.model_copy(update={"recipe_key": "a", "seed": 1}) if run.name == "no_experts" else run
        for run in settings.runs
    ]
    for record, seed in (("scores.csv", "no_experts,{}"), ("provenance.json", '"seed": {}')):
        path = tmp_path / "results/no_experts" / record
        path.write_text(path.read_text().replace(seed.format(0), seed.format(1)))
    items = {name: settings.items[name] for name in ("table1", "differences")}
    settings = settings.model_copy(update={"runs": tuple(runs), "items": items})
    build(settings, tiny_results.score_files(tmp_path), tmp_path / "results", tmp_path / "out")
    tables = tmp_path / "out/tables"
    where = {"image_source": "twemoji", "benchmark": "MMMB", "language": "ru"}
    found = cell(tables / "table1.csv", run="parrot at seeds 0, 1", **where)
    assert float(found["value"]) == 68.75
    assert float(found["low"]) < 62.5
    assert float(found["high"]) > 75
    compared = cell(tables / "differences.csv", comparison="parrot minus english", measure="difference", **where)
    assert float(compared["value"]) == 43.75
    text = (tables / "differences.md").read_text()
    assert "Means over seeds, which are resampled too: parrot at seeds 0, 1." in text
    assert "†" not in text.split("p is of no difference")[1].split("marked †")[1]
    page = (tmp_path / "out/report.html").read_text()
    assert "seed 0, 1</p>" in page
    assert "parrot at seeds 0, 1: their means have intervals over images and seeds." in page


def test_a_family_over_the_seed_is_one_run_at_several_seeds() -> None:
    settings = report_stage(Suite.load(), "seeds")
    assert list(settings.by_recipe.values()) == [{0: "seeds_0", 1: "seeds_1", 2: "seeds_2"}]
    assert report_stage(Suite.load(), "parrot").runs[0].recipe_key == settings.runs[0].recipe_key
    assert len(report_stage(Suite.load()).by_recipe) == 3


def test_a_missing_cell_is_shown_as_missing_in_every_format(tmp_path: Path) -> None:
    settings = tiny_results.make(tmp_path)
    path = tmp_path / "results/english/scores.csv"
    lines = path.read_text().splitlines(keepends=True)
    left_out = ("english,0,MMMB,ru,twemoji,all,", "english,0,MMMB,non_english,twemoji,all,")
    path.write_text("".join(line for line in lines if not line.startswith(left_out)))
    settings = settings.model_copy(update={"items": {"table1": settings.items["table1"]}})
    build(settings, tiny_results.score_files(tmp_path), tmp_path / "results", tmp_path / "out")
    where = {"image_source": "twemoji", "run": "english", "benchmark": "MMMB"}
    tables = tmp_path / "out/tables"
    assert cell(tables / "table1.csv", **where, language="ru")["value"] == ""
    # A mean over fewer languages would be another quantity.
    assert cell(tables / "table1.csv", **where, language="non_english")["value"] == ""
    assert float(cell(tables / "table1.csv", **where, language="zh")["value"]) == 25.0
    assert (tables / "table1.md").read_text().count(" missing |") == 2
    assert (tables / "table1.tex").read_text().count(r"\textit{missing}") == 2
    assert '<td class="missing">missing</td>' in (tmp_path / "out/report.html").read_text()


def test_equal_scores_give_equal_bytes(
    settings_and_root: tuple[ReportStage, Path], built: Path, tmp_path: Path
) -> None:
    settings, root = settings_and_root
    build(settings, tiny_results.score_files(root), root / "results", tmp_path)
    for name in settings.outputs():
        assert (tmp_path / name).read_bytes() == (built / "out" / name).read_bytes(), name


def test_latex_rows_have_as_many_cells_as_columns(built: Path) -> None:
    text = (built / "out/tables/table1.tex").read_text()
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])
    rows = [line for line in text.splitlines() if line.endswith(r" \\") and "multicolumn" not in line]
    assert columns == 1 + 2 * 7
    assert [line.count("&") for line in rows] == [columns - 1] * (1 + 2 * 3)
    for command in (r"\toprule", r"\bottomrule", r"no\_experts", r"95 \% interval"):
        assert command in text


def test_markdown_tables_are_rectangular(built: Path) -> None:
    for path in (built / "out/tables").glob("*.md"):
        for block in path.read_text().split("\n\n"):
            rows = [line for line in block.splitlines() if line.startswith("|")]
            assert len({row.count("|") for row in rows}) <= 1, path.name


def test_figures_are_images_and_the_svg_is_free_of_dates(built: Path) -> None:
    for name in ("fig7a", "fig7c", "losses"):
        with Image.open(built / f"out/figures/{name}.png") as image:
            assert image.width > 500
            assert not image.info.get("Software")
        assert "<dc:date>" not in (built / f"out/figures/{name}.svg").read_text()


class Links(HTMLParser):
    """Collects what a page fetches or links to, and images without a description."""

    def __init__(self) -> None:
        super().__init__()
        self.named: list[str] = []
        self.undescribed = 0
        self.images = 0
        self.directions: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.named += [given[name] or "" for name in ("src", "href") if name in given]
        if tag == "img":
            self.images += 1
            self.undescribed += not given.get("alt")
        if "dir" in given:
            self.directions.setdefault(given.get("lang") or "", []).append(given["dir"] or "")


def test_the_page_fetches_nothing_describes_its_images_and_turns_arabic_right_to_left(built: Path) -> None:
    text = (built / "out/report.html").read_text()
    page = Links()
    page.feed(text)
    links = [link for link in page.named if not link.startswith(("data:image/png;base64,", "#"))]
    assert links == [f"{run.name}/predictions.html" for run in tiny_results.RUNS]
    assert "@import" not in text
    assert "<script" not in text
    assert (page.images, page.undescribed) == (10 + 3, 0)
    assert set(page.directions["ar"]) == {"auto", "rtl"}
    assert page.directions.keys() == set(tiny_results.NAMES)


def test_the_page_says_what_it_shows_and_what_ran(built: Path) -> None:
    text = (built / "out/report.html").read_text()
    for words in ("A note from the config.", "one seed", "f" * 12, "1 min 23 s", "75.0", "✓ right", "✗ wrong"):
        assert words in text


def test_a_table_by_ability_or_kind_says_on_the_page_what_it_divides_by(built: Path) -> None:
    text = (built / "out/report.html").read_text()
    by_kind, by_ability = (
        text.split(f'<h2 id="{name}">')[1].split("</section>")[0] for name in ("kinds", "l2_categories")
    )
    assert "how similar the distractors are" in by_kind
    assert "Categories that ask for the same ability" in by_ability
    assert "how similar the distractors are" not in by_ability


def test_published_values_are_the_papers_own(built: Path) -> None:
    section = (built / "out/report.html").read_text().split('id="published"')[1].split("</section>")[0]
    for value in ("72.7", "57.7", "70.0", "62.7", "69.4", "52.1", "70.7", "58.4"):
        assert f"<td>{value}" in section
    # Means of the five other languages of Tables 14 and 6, by hand: 64.48 - 60.606 and 63.14 - 59.0.
    assert "3.9 points on MMMB and 4.1 points on MTL-MMBench" in " ".join(section.split())


def test_a_target_is_shown_beside_its_baselines_and_compared_with_them() -> None:
    settings = report_stage(Suite.load(), "experts")
    members = [f"experts_{n}" for n in (1, 2, 4, 6, 8)]
    assert [run.name for run in settings.runs] == [*members, "parrot"]
    # Six experts are the baseline itself.
    pairs = [(name, "parrot") for name in members if name != "experts_6"]
    assert settings.compared(settings.items["differences"]) == pairs
    assert settings.compared(settings.items["primary"]) == pairs
    assert list(settings.items) == ["primary", "fig7a", "losses", "table1", "differences"]


@pytest.mark.parametrize("target", ["experts", "lora", "parrot", "seeds", "qwen2_vl"])
def test_every_target_has_the_same_files(target: str) -> None:
    suite = Suite.load()
    settings = ReportStage.model_validate_json(canonical(report_stage(suite, target)))
    assert settings.outputs() == report_stage(suite, suite.targets[0]).outputs()
    assert "report.html" in settings.outputs()
    assert (settings.compared(settings.items["primary"]) == []) == (target in ("parrot", "seeds"))


def test_an_item_without_what_its_kind_needs_is_refused() -> None:
    with pytest.raises(ValueError, match="comparisons"):
        ReportItem(kind="differences", title="x", benchmarks=("MMMB",))
    with pytest.raises(ValueError, match="benchmarks"):
        ReportItem(kind="accuracy", title="x")
    two = {"benchmarks": ("MMMB",), "comparisons": (("a", "b"), ("a", "c"))}
    with pytest.raises(ValueError, match="kind contrast: expected one benchmark and one comparison"):
        ReportItem(kind="contrast", title="x", **two)
    with pytest.raises(ValueError, match="questions belong to kind contrast"):
        ReportItem(kind="differences", title="x", questions="easy", **two)


def test_order_survives_canonical_json():
    stage = report_stage(Suite.load())
    read = ReportStage.model_validate_json(canonical(stage))
    assert read == stage
    tables = ["table1", "differences", "controls", "router", "l2_categories", "kinds"]
    assert list(read.items) == ["primary", "fig7a", "losses", "fig7c", *tables]
    assert list(read.items["table1"].image_sources) == ["twemoji", "openmoji"]
