"""A judge's server that refuses for a while or for ever, is slow, redirects, or answers in another order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from parrot.config.settings import JudgeSettings
from parrot.data.tsv import read_tsv
from parrot.errors import UserError
from parrot.evaluate import judge as judging

SOON = {"retry-after-ms": "1"}
Reply = tuple[int, dict[str, str], bytes]


def completion(review: str) -> Reply:
    """A chat completion that says `review`."""
    return 200, {}, json.dumps({"choices": [{"message": {"content": review}}]}).encode()


@dataclass
class Server:
    """Replies to the prediction in each request as `reply` says, and keeps the headers of all."""

    reply: Callable[[str], Reply] = lambda prediction: completion(f"8 {prediction}")
    url: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.seen.append({name.lower(): value for name, value in self.headers.items()})
            prediction = request["messages"][-1]["content"].split("[Answer 2]\n")[1].split("\n")[0]
            status, headers, body = made.reply(prediction)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        made.url = f"http://127.0.0.1:{http.server_port}/v1"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield made
        http.shutdown()


def review(server: Server, folder: Path, *predictions: str, **settings: object) -> list[str]:
    """The server's reviews of `predictions`, which are kept in `folder`."""
    shared = {"question": "What?", "caption": "A cat.", "gpt4_ans": "Cat"}
    rows = [{"index": str(i), **shared, "prediction": text} for i, text in enumerate(predictions)]
    judge = JudgeSettings.model_validate({"name": "rater", "url": server.url, "attempts": 1} | settings)
    return judging._reviews(pd.DataFrame(rows, dtype=str), judge, folder / "reviews.tsv")


def test_a_server_that_refuses_for_a_while_is_tried_again(server: Server, tmp_path: Path) -> None:
    refusals = iter([429, 503, 429])

    def reply(prediction: str) -> Reply:
        status = next(refusals, None)
        return completion(f"8 {prediction}") if status is None else (status, SOON, b"{}")

    server.reply = reply
    assert review(server, tmp_path, "4", "5", "6") == ["8 4", "8 5", "8 6"]
    assert len(server.seen) == 6


def test_a_server_that_refuses_for_ever_is_named_after_its_retries(server: Server, tmp_path: Path) -> None:
    server.reply = lambda _: (500, SOON, b'{"error": {"message": "out of memory"}}')
    with pytest.raises(UserError, match=f"evaluate.judge: rater at {server.url} does not respond: .*500.*memory"):
        review(server, tmp_path, "4")
    assert len(server.seen) == judging.RETRIES + 1


def test_what_is_wrong_with_a_request_is_said_at_once(server: Server, tmp_path: Path) -> None:
    server.reply = lambda _: (400, {}, b'{"error": {"message": "no model rater"}}')
    with pytest.raises(UserError, match="does not respond: .*400.*no model rater"):
        review(server, tmp_path, "4")
    assert len(server.seen) == 1


def test_a_server_that_does_not_answer_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "SECONDS", 0.2)
    monkeypatch.setattr(judging, "RETRIES", 1)
    over = threading.Event()
    server.reply = lambda _: completion(str(over.wait(60)))
    try:
        with pytest.raises(UserError, match="does not respond: Request timed out"):
            review(server, tmp_path, "4")
    finally:
        over.set()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}'])
def test_what_is_no_chat_completion_is_no_review(server: Server, tmp_path: Path, body: bytes) -> None:
    server.reply = lambda _: (200, {"Content-Type": "application/json"}, body)
    with pytest.raises(UserError, match="rater at .* does not respond: "):
        review(server, tmp_path, "4")
    assert not (tmp_path / "reviews.tsv").exists()


def test_reviews_do_not_depend_on_the_order_of_the_replies(server: Server, tmp_path: Path) -> None:
    first = threading.Event()

    def last_comes_first(prediction: str) -> Reply:
        first.set() if prediction == "9" else first.wait(60)
        return completion(f"8 {prediction}")

    server.reply = last_comes_first
    assert review(server, tmp_path, "4", "9", concurrency=2) == ["8 4", "8 9"]
    kept = (tmp_path / "reviews.tsv").read_bytes()
    server.reply = lambda prediction: completion(f"8 {prediction}")
    (tmp_path / "reviews.tsv").unlink()
    assert review(server, tmp_path, "4", "9", concurrency=1) == ["8 4", "8 9"]
    assert (tmp_path / "reviews.tsv").read_bytes() == kept


def test_no_more_requests_are_under_way_than_the_config_says(server: Server, tmp_path: Path) -> None:
    three, most, under_way, lock = threading.Barrier(3), 0, 0, threading.Lock()

    def reply(prediction: str) -> Reply:
        nonlocal most, under_way
        with lock:
            under_way += 1
            most = max(most, under_way)
        three.wait(60)  # three at once, or never
        with lock:
            under_way -= 1
        three.wait(60)
        return completion(f"8 {prediction}")

    server.reply = reply
    assert review(server, tmp_path, *"123456", concurrency=3) == [f"8 {n}" for n in "123456"]
    assert most == 3


def test_reviews_before_a_failure_are_kept_and_equal_requests_are_made_once(server: Server, tmp_path: Path) -> None:
    server.reply = lambda prediction: completion("8 4") if prediction == "4" else (400, {}, b"{}")
    with pytest.raises(UserError, match="does not respond"):
        review(server, tmp_path, "4", "4", "5", concurrency=1)
    assert list(read_tsv(tmp_path / "reviews.tsv")["review"]) == ["8 4", "8 4"]
    assert len(server.seen) == 2
    server.reply = lambda prediction: completion(f"8 {prediction}")
    assert review(server, tmp_path, "4", "4", "5") == ["8 4", "8 4", "8 5"]
    assert len(server.seen) == 3


def test_the_key_goes_to_the_server_and_into_no_message(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATER_KEY", "sk-hidden")
    server.reply = lambda _: (401, {}, b'{"error": {"message": "wrong key sk-hidden"}}')
    with pytest.raises(UserError, match=r"wrong key \*\*\*") as refused:
        review(server, tmp_path, "4", key_variable="RATER_KEY")
    assert "hidden" not in str(refused.value)
    assert server.seen[0]["authorization"] == "Bearer sk-hidden"
    monkeypatch.delenv("RATER_KEY")
    with pytest.raises(UserError, match="key_variable: no environment variable RATER_KEY"):
        review(server, tmp_path, "4", key_variable="RATER_KEY")


def test_no_other_servers_key_is_sent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "sk-of-openai")
    assert review(server, tmp_path, "4") == ["8 4"]
    assert "sk-of-openai" not in str(server.seen)
    server.url = server.url.replace("http://", "http://me:p%40ss@")
    server.reply = lambda _: (400, {}, b"{}")
    with pytest.raises(UserError, match="does not respond") as refused:
        review(server, tmp_path, "5")
    assert server.seen[-1]["authorization"] == "Basic bWU6cEBzcw=="
    assert "ss@" not in str(refused.value)


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "file:///etc/passwd", "ftp://host/x"])
def test_no_redirection_leads_to_a_file_or_a_cloud(server: Server, tmp_path: Path, target: str) -> None:
    server.reply = lambda _: (307, {"Location": target}, b"")
    with pytest.raises(UserError, match="does not respond: expected (an http|the address)"):
        review(server, tmp_path, "4")
    assert len(server.seen) == 1
