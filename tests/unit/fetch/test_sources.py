"""What entries download from a hub and the web, which archives a run needs, and what a person brings."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.catalog import BackboneFolder, ConversationSet, HubFile, ImageArchive, in_archives
from parrot.errors import UserError
from parrot.fetch import download as downloading
from parrot.fetch import fetch as fetching
from parrot.fetch import hub, sources
from parrot.fetch.fetch import bring, fetch
from tests.helpers.loopback import COMMIT, Loopback, loopback, times
from tests.helpers.tiny_training import write_backbones


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A hub and web server; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(downloading, "WAITS", (0, 0))
    hub._tree.cache_clear()
    with loopback() as one:
        for name, value in {"HF_ENDPOINT": one.url, "HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"}.items():
            monkeypatch.setenv(name, value)
        yield one


@pytest.fixture
def published(server: Loopback, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A vision encoder as a hub repository publishes it."""
    folder = tmp_path_factory.mktemp("published")
    write_backbones(folder)
    files = {path.name: path.read_bytes() for path in (folder / "clip").iterdir()}
    server.add_repository("some/clip", files | {"pytorch_model.bin": b"a pickle", "onnx/config.json": b"{}"})
    return files


def backbone(revision: str = COMMIT) -> BackboneFolder:
    source = {"repository": "some/clip", "revision": revision}
    return BackboneFolder.model_validate({"kind": "backbone", "path": "models/clip", "licence": "", "source": source})


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_model_folder_holds_what_transformers_reads(
    server: Loopback, published: dict[str, bytes], revision: str
) -> None:
    assert bring({"clip": backbone(revision)}, {}, {}) == []
    assert {path.name: path.read_bytes() for path in Path("models/clip").iterdir()} == published
    assert [path.name for path in Path("models").iterdir()] == ["clip"]
    requests = len(server.requests)
    bring({"clip": backbone(revision)}, {}, {})
    assert len(server.requests) == requests


def test_a_folder_that_lacks_a_file_is_no_model_and_goes_on_later(
    server: Loopback, published: dict[str, bytes]
) -> None:
    weights = f"/some/clip/resolve/{COMMIT}/model.safetensors"
    server.faults[weights] = times(3, lambda request: request.refuse(500))
    (line,) = bring({"clip": backbone()}, {}, {})
    assert line.startswith(f"models/.clip.hub/model.safetensors: {server.url}{weights}: HTTP 500")
    assert not Path("models/clip").exists()
    server.requests.clear()
    assert bring({"clip": backbone()}, {}, {}) == []
    assert [path for path, _ in server.requests] == [weights]
    assert {path.name for path in Path("models/clip").iterdir()} == set(published)


def test_bytes_that_the_hub_does_not_list_are_refused(server: Loopback, published: dict[str, bytes]) -> None:
    for name in ("preprocessor_config.json", "model.safetensors"):  # a Git blob, and a file in LFS
        content = published[name]
        server.files[f"/some/clip/resolve/{COMMIT}/{name}"] = content[:-1] + bytes([content[-1] ^ 1])
    lines = bring({"clip": backbone()}, {}, {})
    assert sorted(line.split(": ")[2] for line in lines) == ["git_sha1", "sha256"]
    assert not Path("models/clip").exists()


def test_a_revision_that_is_gone_is_named(server: Loopback, published: dict[str, bytes]) -> None:
    server.faults["/api/models/some/clip/revision/v1"] = lambda request: request.refuse(
        404, {"X-Error-Code": "RevisionNotFound"}
    )
    (line,) = bring({"clip": backbone("v1")}, {}, {})
    assert line == (
        f"models/clip: some/clip: {server.url}: the repository has no such revision; "
        f"by hand: {server.url}/some/clip/tree/v1 -> models/clip"
    )


@pytest.mark.parametrize(
    ("path", "answer", "said"),
    [
        ("tree", b"{}", None),
        ("tree", b'[{"type": "file"}]', "expected a list of files, found something else"),
        ("tree", b"[1]", "expected a list of files, found something else"),
        ("revision", b"[]", "expected the commit of revision main, found none"),
        ("revision", b"no JSON", "Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_what_no_hub_answers_is_one_line(
    server: Loopback, published: dict[str, bytes], path: str, answer: bytes, said: str | None
) -> None:
    end = COMMIT if path == "tree" else "main"
    server.files[f"/api/models/some/clip/{path}/{end}"] = answer
    (line,) = bring({"clip": backbone("main")}, {}, {})
    missing = "some/clip: revision main has no *.json or *.safetensors or *.txt or *.model or *.jinja"
    assert line.startswith(
        f"models/clip: some/clip: {server.url}: {said}; by" if said else f"models/clip: {missing}; by"
    )


def test_a_tree_comes_in_pages_and_a_token_stays_with_the_hub(
    server: Loopback, published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    tree = f"/api/models/some/clip/tree/{COMMIT}"
    entries = json.loads(server.files[tree])
    server.files["/second"] = json.dumps(entries[1:]).encode()

    def first_page(request: object) -> bool:
        body = json.dumps(entries[:1]).encode()
        request.send_response(200)  # type: ignore[attr-defined]
        request.send_header("Link", f'<{server.url}/second>; rel="next"')  # type: ignore[attr-defined]
        request.send_header("Content-Length", str(len(body)))  # type: ignore[attr-defined]
        request.end_headers()  # type: ignore[attr-defined]
        request.wfile.write(body)  # type: ignore[attr-defined]
        return True

    server.faults[tree] = first_page
    assert bring({"clip": backbone()}, {}, {}) == []
    assert {headers["Authorization"] for _, headers in server.requests} == {"Bearer hf_secret"}


def test_two_fetches_at_once_download_once(server: Loopback, published: dict[str, bytes]) -> None:
    lines: list[list[str]] = []
    threads = [threading.Thread(target=lambda: lines.append(bring({"clip": backbone()}, {}, {}))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines == [[], []]
    assert len(server.requested(f"/some/clip/resolve/{COMMIT}/model.safetensors")) == 1


def test_without_a_network_what_is_missing_is_listed(
    server: Loopback, published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    known = archives(server)
    entry = in_archives(conversations(), known, "sets")
    lost = entry.model_copy(update={"file": "lost.json", "source": HubFile(repository="some/set", file="lost.json")})
    page = f"{server.url}/some/clip/tree/{COMMIT}"
    assert bring({"clip": backbone(), "lost": lost}, {}, known) == [
        f"models/clip: some/clip: HF_HUB_OFFLINE forbids requests; by hand: {page} -> models/clip",
        "lost.json: some/set: HF_HUB_OFFLINE forbids requests; by hand: "
        f"{server.url}/datasets/some/set/resolve/main/lost.json -> lost.json",
        "coco, vg, sam: up to 0 GB of images, of which those are downloaded that the missing conversations name",
    ]
    assert server.requests == []


def quiz(**fields: object) -> Benchmark:
    return Benchmark.model_validate(
        {
            "name": "Quiz",
            "folder": "quiz",
            "files": {"en": "quiz_en.tsv", "zh": "quiz_cn.tsv"},
            "scoring": "vanilla",
            "generation": BenchmarkGeneration(max_new_tokens=1),
            **fields,
        }
    )


@pytest.mark.parametrize("kind", ["hub", "web"])
def test_a_benchmark_is_held_to_its_own_digest(server: Loopback, kind: str) -> None:
    files = {"deep/QUIZ.tsv": b"english", "deep/quiz_cn.tsv": b"chinese"}
    server.add_repository("some/quiz", files, "dataset")
    server.files |= {f"/{path}": content for path, content in files.items()}
    source = {"repository": "some/quiz", "folder": "deep"} if kind == "hub" else {"url": f"{server.url}/deep"}
    digests = {"en": hashlib.md5(b"english").hexdigest(), "zh": "0" * 32}
    entry = quiz(source=source, published_as={"en": "QUIZ.tsv"}, md5=digests)
    (line,) = bring({}, {"quiz": entry}, {})
    assert line.startswith("quiz/quiz_cn.tsv: ")
    assert f"md5: expected {'0' * 32}, found {hashlib.md5(b'chinese').hexdigest()}" in line
    assert {path.name for path in Path("quiz").iterdir()} == {"quiz_en.tsv"}


# --- archives --------------------------------------------------------------------------------------------------------


def zipped(names: list[str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            image = io.BytesIO()
            Image.new("RGB", (4, 4), (len(name), 0, 0)).save(image, "PNG")
            file.writestr(name, image.getvalue())
    return content.getvalue()


COCO = zipped(["train2017/1.png", "train2017/2.png"])
VG = zipped(["images/VG_100K/3.png"])


def archives(server: Loopback) -> dict[str, ImageArchive]:
    found = {}
    for name, field, folder, content in (
        ("coco", "coco/train2017/", "train2017", COCO),
        ("vg", "vg/VG_100K/", "VG_100K", VG),
        ("sam", "sam/images/", "", b"never fetched"),
    ):
        entry = {
            "file": f"archives/{name}/images.zip",
            "fields": [field],
            "folder": folder,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "licence": "",
            "sources": [{"url": f"{server.url}/{name}/images.zip"}],
        }
        found[name] = ImageArchive.model_validate(entry)
        server.files[f"/{name}/images.zip"] = content
    return found


def conversations(*images: str, names: tuple[str, ...] = ("coco", "vg", "sam")) -> ConversationSet:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A dot."}]
    samples = [{"id": str(n), "image": image, "conversations": turns} for n, image in enumerate(images)]
    Path("set.json").write_text(json.dumps(samples))
    entry = {"kind": "conversations", "file": "set.json", "images": names, "licence": "", "source": "local"}
    return ConversationSet.model_validate(entry)


def test_only_archives_that_samples_need_are_downloaded(server: Loopback) -> None:
    """The folder around all members of one is not where the catalogue says."""
    known = archives(server)
    entry = in_archives(conversations("coco/train2017/1.png", "vg/VG_100K/3.png"), known, "sets")
    fetch({"set": entry}, {}, False, Path("report.json"), archives=known)
    assert sorted(path for path, _ in server.requests) == ["/coco/images.zip", "/vg/images.zip"]
    assert json.loads(Path("report.json").read_text())["images"]["inspected"] == 2


def test_images_of_no_archive_are_counted_before_any_is_downloaded(server: Loopback) -> None:
    known = archives(server)
    images = ["coco/train2017/1.png", "wild/a/1.png", "wild/a/2.png", "wild/b/1.png"]
    entry = in_archives(conversations(*images), known, "sets")
    with pytest.raises(UserError) as raised:
        bring({"set": entry}, {}, known)
    assert str(raised.value) == (
        "set.json: image: expected paths that begin with coco/train2017/ or vg/VG_100K/ or sam/images/ (images), "
        "found 2 in wild/a/, such as wild/a/1.png; and 1 other folders"
    )
    assert server.requests == []


def test_names_of_archives_are_held_to_the_catalogue(server: Loopback) -> None:
    known = archives(server)
    with pytest.raises(UserError, match=r"^sets: images: cocoa is not in images\.yaml; did you mean coco\?$"):
        in_archives(conversations(names=("cocoa",)), known, "sets")
    twice = known | {"again": known["coco"]}
    with pytest.raises(UserError, match=r"^sets: images: fields of two archives begin alike$"):
        in_archives(conversations(names=("coco", "again")), twice, "sets")
    alone = conversations().model_copy(update={"images": "coco"})
    assert in_archives(alone, known, "sets").images == {"": "archives/coco/images.zip/train2017"}
    mapped = conversations().model_copy(update={"images": {"a/": "coco", "b/": "my/folder"}})
    places = {"a/": "archives/coco/images.zip/train2017", "b/": "my/folder"}
    assert in_archives(mapped, known, "sets").images == places


def test_a_file_that_a_person_placed_is_taken_if_its_digest_agrees(server: Loopback) -> None:
    """Three archives are published under one name."""
    known = archives(server)
    for name in known:
        del server.files[f"/{name}/images.zip"]
    entry = in_archives(conversations("coco/train2017/1.png", "vg/VG_100K/3.png"), known, "sets")
    sources.PLACED.mkdir(parents=True)
    (sources.PLACED / "images.zip").write_bytes(VG)
    (line,) = bring({"set": entry}, {}, known)
    assert Path("archives/vg/images.zip").read_bytes() == VG
    assert not (sources.PLACED / "images.zip").exists()
    digest = hashlib.sha256(COCO).hexdigest()
    assert line == (
        f"archives/coco/images.zip: {server.url}/coco/images.zip: the revision has no such file; by hand: "
        f"{server.url}/coco/images.zip (0.00 GB, sha256 {digest}) -> data/placed/images.zip or archives/coco/images.zip"
    )
    changed = bytes([*COCO[:-1], COCO[-1] ^ 1])
    (sources.PLACED / "images.zip").write_bytes(changed)
    (line,) = bring({"set": entry}, {}, known)
    said = f"data/placed/images.zip: sha256: expected {digest}, found {hashlib.sha256(changed).hexdigest()}"
    assert line.startswith(f"archives/coco/images.zip: {said}; by hand: ")
    assert (sources.PLACED / "images.zip").exists()


def test_what_is_missing_is_one_list_and_one_line(server: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    known = archives(server)
    server.files.clear()
    entry = in_archives(conversations("coco/train2017/1.png", "vg/VG_100K/3.png"), known, "sets")
    with pytest.raises(UserError, match=r"^2 downloads are missing, listed above; bring them and run this again$"):
        fetch({"set": entry}, {}, False, None, archives=known)
    assert capsys.readouterr().err.count("parrot: not there: archives/") == 2


def test_a_split_archive_comes_volume_by_volume(server: Loopback) -> None:
    volumes = Path(__file__).parents[1] / "io/volumes"
    archive = ImageArchive.model_validate(
        {
            "file": "split/split.zip",
            "fields": ["a/"],
            "folder": "a",
            "licence": "",
            "sources": [{"url": f"{server.url}/split.zip"}],
            "volumes": {
                path.suffix[1:]: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
                for path in sorted(volumes.glob("*.z0*"))
            },
        }
    )
    server.files |= {f"/{path.name}": path.read_bytes() for path in volumes.iterdir()}
    assert fetching._brought(sources.of_archive(archive)) == []
    assert {path.name for path in Path("split").iterdir()} == {path.name for path in volumes.iterdir()}
    Path("split/split.z01").unlink()
    known = {"split": archive}
    entry = in_archives(conversations("a/1.jpg", names=("split",)), known, "sets")
    assert bring({"set": entry}, {}, known) == []
    assert Path("split/split.z01").exists()
    shutil.rmtree("split")
    server.files["/split.z02"] = b"damaged"
    (line,) = fetching._brought(sources.of_archive(archive))
    assert line.startswith(f"split/split.z02: {server.url}/split.z02: sha256: expected ")
