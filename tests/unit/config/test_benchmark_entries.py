"""A tiny file of each kind of benchmark, from its questions to its scores, with answers made by hand."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from parrot.config.base import validate
from parrot.config.benchmarks import Benchmark
from parrot.config.settings import JudgeSettings
from parrot.config.stages import PredictSettings, ScoreSettings
from parrot.data.tsv import read_tsv, write_tsv
from parrot.errors import UserError
from parrot.evaluate.items import read_tables
from parrot.evaluate.score import score
from parrot.evaluate.scores_csv import read_scores
from tests.helpers.tiny_manifest import sign

IMAGES = {name: name * 100 for name in "pqrs"}


def entry(folder: Path, **fields: Any) -> Benchmark:
    value = {"name": "B", "folder": str(folder), "files": {"en": "B.tsv"}, "generation": {"max_new_tokens": 4}}
    return validate(Benchmark, value | fields, "benchmarks.yaml: b")


def answer(benchmark: Benchmark, rows: list[dict[str, str]], answers: list[str], out: Path) -> list[str]:
    """Write the benchmark's file and the predictions `answers` to it; what the model was asked."""
    table = [{"index": str(place), **row} for place, row in enumerate(rows)]
    write_tsv(pd.DataFrame(table, dtype=str), Path(benchmark.folder, "B.tsv"))
    settings = PredictSettings(benchmarks=(benchmark,), controls=("none",), prompt_language="dataset", dtype="fp32")
    (sheet,) = read_tables(settings, out)
    write_tsv(sheet.table.assign(prediction=answers, prompt_sha256=""), sheet.file)
    sign(out, benchmark)
    return [question.query for question in sheet.items]


def scores(benchmark: Benchmark, folder: Path, **fields: Any) -> pd.DataFrame:
    """Rows of scores.csv, as the report reads them back, by scoring and kind."""
    settings = ScoreSettings(run="r", seed=0, benchmarks=(benchmark,), controls=("none",), resamples=50, **fields)
    score(settings, folder, None, folder / "scores.csv")
    found = read_scores([folder / "scores.csv"])
    return pd.DataFrame([vars(row) for row in found]).set_index(["scoring", "kind"])


def test_multiple_choice_asks_for_the_letter_unless_the_entry_says_otherwise(tmp_path: Path) -> None:
    rows = [
        {"question": "Which?", "A": "cat", "B": "dog", "answer": right, "image": IMAGES["p"], "hint": hint}
        for right, hint in (("A", ""), ("B", "Look."))
    ]
    benchmark = entry(tmp_path, scoring="vanilla")
    asked = answer(benchmark, rows, ["A", "A"], tmp_path)
    sentence = "Answer with the option's letter from the given choices directly."
    assert asked == [
        f"<image>\nWhich?\nA. cat\nB. dog\n{sentence}",
        f"<image>\nLook.\nWhich?\nA. cat\nB. dog\n{sentence}",
    ]
    assert scores(benchmark, tmp_path).loc[("vanilla", "all"), "accuracy"] == 50
    worded = entry(tmp_path, scoring="vanilla", template="Hint: {hint}\nQ: {question}\n{options}\n{instruction}")
    asked = answer(worded, rows, ["A", "A"], tmp_path)
    assert asked[1] == f"<image>\nHint: Look.\nQ: Which?\nA. cat\nB. dog\n{sentence}"


@pytest.fixture
def mme(tmp_path: Path) -> Benchmark:
    sums = {"perception": ["count", "OCR"], "cognition": ["code"]}
    return entry(tmp_path, kind="yes_no", scoring="mme", sums=sums)


def mme_rows() -> list[dict[str, str]]:
    """Two images of category count, one of OCR, one of code, each with a Yes and a No."""
    return [
        {
            "question": f"Is it {right}? Please answer yes or no.",
            "answer": right,
            "category": category,
            "image_path": f"{image}.jpg",
            "image": IMAGES[image],
        }
        for image, category in (("p", "count"), ("q", "count"), ("r", "OCR"), ("s", "code"))
        for right in ("Yes", "No")
    ]


def test_mme_adds_accuracies_and_those_of_whole_images(tmp_path: Path, mme: Benchmark) -> None:
    # count: 3 of 4, 1 of 2 images; OCR: 1 of 2, no image (one answer cannot be read); code: all.
    asked = answer(mme, mme_rows(), ["Yes", "No", "Yes", "Yes.", "It is", "no", "Yes, it is", "No!"], tmp_path)
    assert asked[0] == (
        "<image>\nIs it Yes?\nPlease strictly answer Yes or No. Answer the question using a single word or phrase."
    )
    found = scores(mme, tmp_path)
    assert found["accuracy"].to_dict() == {
        ("mme", "all"): 375,
        ("mme", "l2-category/perception"): 175,
        ("mme", "l2-category/cognition"): 200,
        ("mme", "OCR"): 50,
        ("mme", "code"): 200,
        ("mme", "count"): 125,
        ("vanilla", "all"): 75,
        ("vanilla", "OCR"): 50,
        ("vanilla", "code"): 100,
        ("vanilla", "count"): 75,
        ("pairs", "all"): 50,
        ("pairs", "OCR"): 0,
        ("pairs", "code"): 100,
        ("pairs", "count"): 50,
    }
    assert found.loc[("mme", "OCR"), "unmatched"] == 50
    assert list(found.loc[("mme", "code"), ["low", "high"]]) == [200, 200]
    assert found.loc[("mme", "count"), "low"] == 50  # the worse image alone: 1 of 2 right, not both
    assert found.loc[("mme", "count"), "high"] == 200


def test_a_lone_question_is_counted_as_no_pair(tmp_path: Path, mme: Benchmark) -> None:
    answer(mme, mme_rows()[1:], ["No", "Yes", "No", "Yes", "No", "Yes", "No"], tmp_path)
    found = scores(mme, tmp_path)
    assert found.loc[("mme", "all"), "accuracy"] == 600
    assert found.loc[("mme", "count"), "uncounted"] == 1


def test_a_category_without_questions_is_named(tmp_path: Path, mme: Benchmark) -> None:
    answer(mme, mme_rows()[:6], ["Yes"] * 6, tmp_path)
    with pytest.raises(UserError, match="B: sums: there is no question of category code in en"):
        scores(mme, tmp_path)


def test_an_answer_that_is_not_yes_or_no_is_refused(tmp_path: Path, mme: Benchmark) -> None:
    rows = mme_rows()
    rows[3]["answer"] = "no"
    with pytest.raises(UserError, match=r"B\.tsv: row 3: answer 'no' .*expected one of Yes, No"):
        answer(mme, rows, [""] * 8, tmp_path)


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A judge that rates 8 and the number that the answer ends with; its address, and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(request)
            said = request["messages"][-1]["content"].split("[Answer 2]\n")[1].split("\n")[0]
            body = json.dumps({"choices": [{"message": {"content": f"8 {said}\nBecause."}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_free_answers_are_rated_by_the_judge_once(tmp_path: Path, server: tuple[str, list[dict[str, Any]]]) -> None:
    url, asked = server
    benchmark = entry(tmp_path, kind="judged", scoring="relative")
    rows = [
        {"question": "What?", "caption": "A cat.", "gpt4_ans": "Cat", "category": category, "image": IMAGES["p"]}
        for category in ("conv", "conv", "detail")
    ]
    assert answer(benchmark, rows, ["\n4 ", "a lot", "6"], tmp_path) == ["<image>\nWhat?"] * 3
    judge = JudgeSettings(name="rater", url=url, attempts=2)
    found = scores(benchmark, tmp_path, judge=judge)
    assert found["accuracy"].to_dict() == {
        ("relative", "all"): 62.5,
        ("relative", "conv"): 50,
        ("relative", "detail"): 75,
    }
    assert set(found["judge"]) == {"rater"}
    assert list(found["uncounted"]) == [1, 1, 0]
    assert found.loc[("relative", "conv"), "unmatched"] == 50
    assert len(asked) == 4  # twice about the answer whose rating cannot be read
    assert asked[0]["model"] == "rater"
    assert "A cat." in asked[0]["messages"][-1]["content"]
    assert list(read_tsv(tmp_path / "reviews" / "B.tsv")["review"]) == [f"8 {n}\nBecause." for n in ("4", "a lot", "6")]
    scores(benchmark, tmp_path, judge=judge)
    assert len(asked) == 4
    scores(benchmark, tmp_path, judge=judge.model_copy(update={"request": "Rate them."}))
    assert len(asked) == 8


@pytest.mark.parametrize(
    ("find", "put", "again"),
    [(b"8 6", b"8 9", 1), (b'"1"\t', b'"1"', 1), (b"request", b"bequest", 3), (b"8 4", b"\xff 4", 1)],
    ids=["a rating", "a row", "the header", "the encoding"],
)
def test_damaged_reviews_are_asked_for_again(find, put, again, tmp_path: Path, server, capsys) -> None:
    url, asked = server
    benchmark, judge = entry(tmp_path, kind="judged", scoring="relative"), JudgeSettings(name="rater", url=url)
    row = {"question": "?", "caption": "", "gpt4_ans": "", "category": "conv", "image": IMAGES["p"]}
    answer(benchmark, [row] * 3, ["4", "5", "6"], tmp_path)
    whole = scores(benchmark, tmp_path, judge=judge)
    path = tmp_path / "reviews/B.tsv"
    kept = path.read_bytes()
    assert kept.count(find) == 1
    path.write_bytes(kept.replace(find, put))
    asked.clear()
    assert scores(benchmark, tmp_path, judge=judge).equals(whole)
    assert len(asked) == again
    assert path.read_bytes() == kept
    assert capsys.readouterr().err.startswith(f"parrot: warning: {path}: damaged; ")


def test_a_judge_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parrot.evaluate.judge.RETRIES", 0)
    benchmark = entry(tmp_path, kind="judged", scoring="relative")
    row = {"question": "?", "caption": "", "gpt4_ans": "", "category": "conv", "image": IMAGES["p"]}
    answer(benchmark, [row], ["5"], tmp_path)
    with pytest.raises(UserError, match=r"evaluate\.judge: rater at http://127\.0\.0\.1:9 does not respond: "):
        scores(benchmark, tmp_path, judge=JudgeSettings(name="rater", url="http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "yes_no", "scoring": "circular"}, "scoring: expected vanilla or pairs or mme for yes_no"),
        ({"kind": "judged", "scoring": "vanilla"}, "scoring: expected relative for judged"),
        ({"kind": "yes_no", "scoring": "vanilla", "instruction": {"en": "?"}}, "belong to multiple_choice"),
        ({"kind": "yes_no", "scoring": "mme"}, "sums belong to scoring mme"),
        ({"scoring": "vanilla", "template": "{question}"}, "expected {instruction} as the last line"),
        ({"scoring": "vanilla", "template": "{query}"}, "template: .*expected {question} and none but"),
        ({"scoring": "vanilla", "template": "{question"}, "template: .*expected placeholders such as {question}"),
        ({"scoring": "vanilla", "md5": {"zh": "0" * 32}}, "md5: no file for zh"),
        ({"kind": "yes_no", "scoring": "mme", "sums": {"a": ["x"], "b": ["x"]}}, "sums: expected every category once"),
    ],
)
def test_an_entry_that_does_not_fit_its_kind_is_refused(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"benchmarks.yaml: b: .*{said}"):
        entry(tmp_path, **fields)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"name": "a/b"}, "name: expected the name of a file, in one line and without folders, found 'a/b'"),
        ({"name": "a\nb"}, "name: expected the name of a file, in one line and without folders, found 'a\\nb'"),
        ({"instruction": {"en": "See <image>."}}, "instruction.en: expected no <image>"),
    ],
)
def test_a_name_that_is_none_and_a_sentence_with_an_image_are_refused(fields, why, tmp_path):
    with pytest.raises(UserError, match=re.escape(why)):
        entry(tmp_path, scoring="vanilla", **fields)
