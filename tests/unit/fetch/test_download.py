"""Downloads from faulty servers end in the right bytes or in one clear line; nothing half-written has a name."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from parrot.errors import UserError
from parrot.fetch import download as downloading
from parrot.fetch.download import Download, download, download_all
from tests.helpers.loopback import Answer, Loopback, broken, loopback, times

CONTENT = random.Random(0).randbytes(200_000)
OTHER = random.Random(1).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "WAITS", (0, 0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as one:
        one.files["/file.zip"] = CONTENT
        yield one


@pytest.fixture
def mirror() -> Iterator[Loopback]:
    with loopback() as one:
        one.files["/file.zip"] = CONTENT
        yield one


def wanted(folder: Path, *servers: Loopback, **fields: object) -> Download:
    urls = tuple(f"{one.url}/file.zip" for one in servers)
    return Download(folder / "file.zip", urls, **{"size": len(CONTENT), "digests": {"sha256": SHA256}, **fields})


def refusal(one: Download) -> str:
    with pytest.raises(UserError) as raised:
        download(one)
    assert not one.target.exists()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_file_arrives_once(server: Loopback, tmp_path: Path) -> None:
    one = wanted(tmp_path, server)
    arrived: list[int] = []
    download(one, count=arrived.append)
    download(one)
    assert one.target.read_bytes() == CONTENT
    assert sum(arrived) == len(CONTENT)
    assert len(server.requests) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.zip"]


def test_a_connection_that_breaks_fifty_times_goes_on_where_it_broke(server: Loopback, tmp_path: Path) -> None:
    server.faults["/file.zip"] = times(50, broken(CONTENT))
    download(wanted(tmp_path, server))
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    starts = [int(headers.get("Range", "bytes=0-")[6:-1]) for headers in server.requested("/file.zip")]
    assert starts == sorted(starts)
    assert 10 < len(starts) <= 51
    assert starts[-1] > 0


def test_a_killed_process_goes_on_at_the_byte_it_was_killed_at(server: Loopback, tmp_path: Path) -> None:
    server.faults["/file.zip"] = times(5, lambda request: request.send(CONTENT, pause=0.02))
    program = (
        "import sys; from pathlib import Path; from parrot.fetch.download import Download, download\n"
        "download(Download(Path(sys.argv[1]), (sys.argv[2],), int(sys.argv[3]), {'sha256': sys.argv[4]}))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "file.zip"), f"{server.url}/file.zip"]
    command += [str(len(CONTENT)), SHA256]
    partial = tmp_path / ".file.zip.part"
    for _ in range(5):
        before = partial.stat().st_size if partial.exists() else 0
        with subprocess.Popen(command) as process:
            give_up = time.monotonic() + 60
            while not partial.exists() or partial.stat().st_size <= before:
                assert time.monotonic() < give_up
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
        assert not (tmp_path / "file.zip").exists()
    subprocess.run(command, check=True)
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    ranges = [headers.get("Range") for headers in server.requested("/file.zip")]
    assert ranges[0] is None
    assert all(ranges[1:])


def test_a_wrong_digest_is_named_with_both(server: Loopback, tmp_path: Path) -> None:
    server.files["/file.zip"] = OTHER
    found = hashlib.sha256(OTHER).hexdigest()
    assert refusal(wanted(tmp_path, server)) == f"{server.url}/file.zip: sha256: expected {SHA256}, found {found}"
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_that_lies_is_passed_over(server: Loopback, mirror: Loopback, tmp_path: Path) -> None:
    server.files["/file.zip"] = OTHER
    download(wanted(tmp_path, server, mirror))
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


def test_what_a_lying_mirror_began_is_not_the_next_one_s_fault(
    server: Loopback, mirror: Loopback, tmp_path: Path
) -> None:
    server.files["/file.zip"] = OTHER
    server.faults["/file.zip"] = lambda request: bool(request.send(OTHER, most=900)) or request.start_of() < 2000
    download(wanted(tmp_path, server, mirror))
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


def test_a_body_shorter_than_it_says_is_resumed(server: Loopback, tmp_path: Path) -> None:
    server.faults["/file.zip"] = times(1, lambda request: request.send(CONTENT, most=7))
    download(wanted(tmp_path, server))
    assert server.requested("/file.zip")[1]["Range"] == "bytes=7-"


@pytest.mark.parametrize("sent", ["bytes 0-9/10", "bytes 8-199999/200000", "nonsense", ""])
def test_a_part_that_was_not_requested_is_refused(server: Loopback, tmp_path: Path, sent: str) -> None:
    def part(request: Answer) -> None:
        request.send_response(206)
        request.send_header("Content-Range", sent)
        request.send_header("Content-Length", "3")
        request.end_headers()
        request.wfile.write(b"abc")

    answers = iter([lambda request: request.send(CONTENT, most=7), part])
    server.faults["/file.zip"] = times(2, lambda request: next(answers)(request))
    assert refusal(wanted(tmp_path, server)).endswith(f"expected Content-Range: bytes 7-, found {sent!r}")


def test_a_server_without_ranges_starts_over(server: Loopback, tmp_path: Path) -> None:
    def complete(request: Answer) -> bool:
        del request.headers["Range"]
        request.send(CONTENT, most=50_000 if len(server.requests) == 1 else None)
        return True

    server.faults["/file.zip"] = complete
    download(wanted(tmp_path, server))
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


def test_416_starts_over(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / ".file.zip.part").write_bytes(CONTENT + b"more")
    download(wanted(tmp_path, server, size=None))
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("code", "header", "said"),
    [
        (404, {}, "HTTP 404 Not Found"),
        (404, {"X-Error-Code": "EntryNotFound"}, "the revision has no such file"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "the repository has no such revision"),
        (404, {"X-Error-Code": "RepoNotFound"}, "no such repository, or one that needs a token (HF_TOKEN)"),
        (401, {"X-Error-Code": "RepoNotFound"}, "no such repository, or one that needs a token (HF_TOKEN)"),
        (401, {}, "HTTP 401 Unauthorized"),
        (403, {"X-Error-Code": "GatedRepo"}, "gated: accept its terms on its page, then set HF_TOKEN"),
    ],
)
def test_a_refusal_is_not_tried_again(
    server: Loopback, tmp_path: Path, code: int, header: dict[str, str], said: str
) -> None:
    server.faults["/file.zip"] = lambda request: request.refuse(code, header)
    assert refusal(wanted(tmp_path, server)) == f"{server.url}/file.zip: {said}"
    assert len(server.requests) == 1


def test_an_overloaded_server_is_tried_when_it_asks_to_be(server: Loopback, tmp_path: Path) -> None:
    answers = iter([(429, {"Retry-After": "1"}), (500, {})])
    server.faults["/file.zip"] = times(2, lambda request: request.refuse(*next(answers)))
    before = time.monotonic()
    download(wanted(tmp_path, server))
    assert time.monotonic() - before >= 1
    assert len(server.requests) == 3


def test_a_redirect_to_another_host_is_followed_anew_and_gets_no_token(
    server: Loopback, mirror: Loopback, tmp_path: Path
) -> None:
    """Signed addresses expire: every attempt begins where the catalogue says."""

    def away(request: Answer) -> bool:
        return request.refuse(302, {"Location": f"{mirror.url}/file.zip"})

    server.faults["/file.zip"] = away
    mirror.faults["/file.zip"] = times(2, broken(CONTENT))
    download(wanted(tmp_path, server, headers={server.url: {"Authorization": "Bearer secret"}}))
    assert {headers["Authorization"] for headers in server.requested("/file.zip")} == {"Bearer secret"}
    assert len(server.requests) == len(mirror.requests) == 3
    assert not any("Authorization" in headers for _, headers in mirror.requests)


def test_a_part_that_lost_its_bytes_is_made_anew(server: Loopback, tmp_path: Path) -> None:
    """A machine that loses power may leave a file of the right length without its content."""
    (tmp_path / ".file.zip.part").write_bytes(bytes(1000))
    download(wanted(tmp_path, server))
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert [headers.get("Range") for headers in server.requested("/file.zip")] == ["bytes=1000-", None]


def test_a_host_that_is_not_there_is_given_up_once(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "WAITS", (0.5, 0.5, 0.5, 100))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}/file.zip"
    started = time.monotonic()
    for _ in range(2):
        assert "Connection refused" in refusal(Download(tmp_path / "file.zip", (nobody,)))
    assert 1.5 <= time.monotonic() - started < 3
    unknown = "http://host.invalid/file.zip"
    refusal(Download(tmp_path / "file.zip", (unknown,)))
    assert time.monotonic() - started < 4
    download(Download(tmp_path / "file.zip", (nobody, unknown, f"{server.url}/file.zip")))


def test_a_slow_source_is_given_up_for_the_next(
    server: Loopback, mirror: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "SLOW_SECONDS", 0.2)
    server.faults["/file.zip"] = times(9, lambda request: request.send(CONTENT, pause=0.05))
    download(wanted(tmp_path, server, mirror))
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert mirror.requested("/file.zip")[0]["Range"] != "bytes=0-"


def test_a_slow_source_without_a_mirror_is_waited_for(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "SLOW_SECONDS", 0.05)
    content = CONTENT[:8000]
    server.faults["/file.zip"] = times(1, lambda request: request.send(content, pause=0.02))
    download(wanted(tmp_path, server, size=8000, digests={"md5": hashlib.md5(content).hexdigest()}))
    assert len(server.requests) == 1


def test_without_a_digest_another_file_is_never_continued(server: Loopback, tmp_path: Path) -> None:
    """The file changes at the server between two attempts: its ETag tells."""
    server.faults["/file.zip"] = times(1, lambda request: request.send(CONTENT, most=1000))
    one = wanted(tmp_path, server, size=None, digests={})
    refuse = times(3, lambda request: request.refuse(500))
    answers = [server.faults["/file.zip"], refuse]
    server.faults["/file.zip"] = lambda request: any(answer(request) for answer in answers)
    refusal(one)
    server.files["/file.zip"] = OTHER

    def by_etag(request: Answer) -> bool:
        if request.headers.get("If-Range") != f'"{hashlib.md5(OTHER).hexdigest()}"':
            del request.headers["Range"]
        return False

    server.faults["/file.zip"] = by_etag
    download(one)
    assert one.target.read_bytes() == OTHER


def test_a_full_disk_is_noticed_before_anything_is_downloaded(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = downloading.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda _: usage._replace(free=150_000))
    with pytest.raises(UserError, match=r"expected 0\.0 GB of free disk for 1 downloads, found 0\.0 GB"):
        download_all([wanted(tmp_path, server)])
    assert server.requests == []
    (tmp_path / ".file.zip.part").write_bytes(CONTENT[:100_000])
    assert download_all([wanted(tmp_path, server)]) == {}


def test_a_disk_that_fills_up_ends_the_download_and_loses_nothing(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / ".file.zip.part"))

    monkeypatch.setattr(downloading, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        download_all([wanted(tmp_path, server)])
    assert len(server.requests) == 1
    assert not (tmp_path / "file.zip").exists()


def test_several_files_come_at_once_and_each_fault_is_told(
    server: Loopback, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    at_once, most, changing = [0], [0], threading.Lock()

    def counted(request: Answer) -> bool:
        """Count who waits for the first byte."""
        with changing:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.1)
        with changing:
            at_once[0] -= 1
        return False

    downloads = []
    for number in range(6):
        server.files[f"/{number}"] = CONTENT[:5000]
        server.faults[f"/{number}"] = counted
        downloads.append(Download(tmp_path / str(number), (f"{server.url}/{number}",), 5000))
    lost = Download(tmp_path / "lost", (f"{server.url}/lost",))
    assert download_all([*downloads, lost]) == {lost.target: f"{server.url}/lost: the revision has no such file"}
    assert all(one.target.read_bytes() == CONTENT[:5000] for one in downloads)
    assert most[0] == downloading.PER_HOST
    assert "30.0kB of 30.0kB" in capfd.readouterr().err


def test_two_processes_share_one_download(server: Loopback, tmp_path: Path) -> None:
    server.faults["/file.zip"] = times(1, lambda request: request.send(CONTENT, pause=0.005))
    program = (
        "import sys; from pathlib import Path; from parrot.fetch.download import Download, download\n"
        "download(Download(Path(sys.argv[1]), (sys.argv[2],)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "file.zip"), f"{server.url}/file.zip"]
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(server.requests) == 1
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
