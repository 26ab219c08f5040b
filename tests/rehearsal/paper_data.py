"""The paper's data in miniature, behind a server here: real names, prefixes, archives, wrappers and defects."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import HubFile, HubFolder, ImageArchive, WebFile, WebFolder, load_catalogue
from tests.helpers.loopback import Loopback
from tests.helpers.project import Project

SAMPLES = 200  # of each conversation set
ROWS = 8  # of each benchmark and language
LOST = "lost-7"  # a sample whose image is in no archive, which the catalogue accepts
COMPOSED = "caf\u00e9.jpg"  # archives made on some systems hold its decomposed form
RANDOM = random.Random(0)

# How many images, and the folder around them in the archive, which is not always where the catalogue says.
IMAGES = {
    "llava_pretrain": (60, "images/"),
    "coco": (60, "train2017/"),
    "gqa": (30, "images/"),
    "ocr_vqa": (20, "images/"),
    "textvqa": (20, "train_images/"),
    "visual_genome_1": (20, "VG_100K/"),
    "visual_genome_2": (20, "VG_100K_2/"),
    "sam": (20, "sam/images/"),
    "share_textvqa": (10, "share_textvqa/images/"),
    "web_celebrity": (10, "web-celebrity/images/"),
    "web_landmark": (10, ""),
    "wikiart": (10, "data/wikiart/images/"),
}
MIX = ("coco", "coco", "coco", "gqa", "ocr_vqa", "textvqa", "visual_genome_1", "visual_genome_2", "")
SHAREGPT4V = ("coco", "llava_pretrain", "sam", "share_textvqa", "web_celebrity", "web_landmark", "wikiart")
WORDS = {
    "en": ("What is this?", "A picture of a small thing."),
    "zh": ("这是什么？", "这是一张小图。"),
    "pt": ("O que é isto?", "É a imagem de uma coisa."),
    "ar": ("ما هذا؟", "هذه صورة شيء صغير."),
    "tr": ("Bu nedir?", "Küçük bir şeyin resmi."),
    "ru": ("Что это?", "Это картинка с предметом."),
}


def image(kind: str = "JPEG") -> bytes:
    """A small image of random blocks."""
    pixels = Image.frombytes("RGB", (4, 4), RANDOM.randbytes(48)).resize((24, 24), Image.Resampling.NEAREST)
    content = io.BytesIO()
    pixels.save(content, kind)
    return content.getvalue()


def names_of(archive: str) -> list[str]:
    """Members without the folder around them."""
    count = IMAGES[archive][0]
    if archive == "llava_pretrain":
        return [f"{n % 7:05d}/{n:09d}.jpg" for n in range(count)]
    names = [f"{n:012d}.jpg" for n in range(count)]
    return [*names[:-1], COMPOSED] if archive == "wikiart" else names


def archive_of(name: str) -> bytes:
    """A ZIP with the defects that the real one has."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for number, member in enumerate(names_of(name)):
            path = unicodedata.normalize("NFKD", f"{IMAGES[name][1]}{member}")
            # Some that are called .jpg are GIFs; some archives are deflated.
            kind = "GIF" if name == "ocr_vqa" and number % 5 == 0 else "JPEG"
            method = zipfile.ZIP_DEFLATED if name == "gqa" else zipfile.ZIP_STORED
            file.writestr(path, image(kind), compress_type=method)
        if name == "visual_genome_2":
            for number in range(170):
                file.writestr(f"VG_100K_2/empty{number}.jpg", b"")
    return content.getvalue()


def samples_of(language: str, archives: dict[str, ImageArchive], mix: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Samples of a set whose images are drawn from the archives `mix`, "" for text alone."""
    question, answer = WORDS[language]
    for number in range(SAMPLES):
        name = mix[number % len(mix)]
        sample: dict[str, Any] = {"id": str(number)}
        if name:
            member = RANDOM.choice(names_of(name))
            field = archives[name].fields[0] if len(mix) > 1 else ""
            sample = {"id": Path(member).stem, "image": f"{field}{member}"}  # one id per image, as in LLaVA's mix
        turns = [{"from": "human", "value": f"<image>\n{question}" if name else question}]
        yield sample | {"conversations": [*turns, {"from": "gpt", "value": f"{answer} {number % 10}"}]}


def tsv(benchmark: Benchmark) -> bytes:
    """A benchmark file of `ROWS` rows, each with all columns that any kind reads."""
    added = [category for categories in benchmark.sums.values() for category in categories]
    rows = max(ROWS, 2 * len(added))
    columns = ("index", "question", "A", "B", "C", "D", "answer", "category", "l2-category", "split", "image")
    lines = ["\t".join(columns)]
    draw = random.Random(1)  # the same rows in all languages
    for row in range(rows):
        pixels = Image.frombytes("RGB", (4, 4), draw.randbytes(48)).resize((24, 24), Image.Resampling.NEAREST)
        content = io.BytesIO()
        pixels.save(content, "PNG")
        encoded = base64.b64encode(content.getvalue()).decode()
        if benchmark.kind == "yes_no":
            options, answer = ["", "", "", ""], ("Yes", "No")[row % 2]
            encoded = encoded if row % 2 == 0 else lines[-1].rpartition("\t")[2]  # two questions per image
        else:
            options, answer = ["red", "blue", "green", "grey"], "ABCD"[draw.randrange(4)]
        category = added[row // 2] if added else f"kind {row % 2}"
        cells = [str(row), f"Which {row}?", *options, answer, category, "ability", "dev", encoded]
        lines.append("\t".join(cells))
    return ("\n".join(lines) + "\n").encode()


def publish(project: Project, server: Loopback) -> None:
    """Put the miniature behind `server`, and its digests and addresses into the project's catalogues."""
    images = project / "config/images.yaml"
    archives = load_catalogue(images, ImageArchive)
    entries = {name: entry for name, entry in yaml.safe_load(images.read_text()).items() if name in IMAGES}
    for name, entry in entries.items():
        content = archive_of(name)
        entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if "md5" in entry:
            entry["md5"] = hashlib.md5(content).hexdigest()
        entry["members"] = len(zipfile.ZipFile(io.BytesIO(content)).namelist())
        entry["sources"] = [_served(source, content, server) for source in archives[name].sources]
    images.write_text(yaml.safe_dump(entries, allow_unicode=True))

    sets = project / "config/datasets.yaml"
    datasets = yaml.safe_load(sets.read_text())
    for name in (
        "llava_pretrain",
        "llava_finetune",
        *(f"sharegpt4v_{code}" for code in ("zh", "pt", "ar", "tr", "ru")),
    ):
        entry = datasets[name]
        mix = {"llava_pretrain": ("llava_pretrain",), "llava_finetune": MIX}.get(name, SHAREGPT4V)
        samples = list(samples_of(entry["language"], archives, mix))
        if name.startswith("sharegpt4v"):
            for number, sample in enumerate(samples):
                sample["id"] = f"{name}-{number}"
        if name == "llava_pretrain":
            for number, sample in enumerate(samples):
                sample["id"] = f"{number:09d}"
        if name == "sharegpt4v_zh":
            samples[7] |= {"id": LOST, "image": "wikiart/images/lost.jpg"}
            samples[6] |= {"image": f"wikiart/images/{COMPOSED}"}
            entry["accepted_losses"] = [LOST]
        content = json.dumps(samples, ensure_ascii=False).encode()
        entry["samples"] = SAMPLES
        if "sha256" in entry:
            entry["sha256"] = hashlib.sha256(content).hexdigest()
        source = HubFile.model_validate(entry["source"])
        server.add_repository(source.repository, {source.file: content}, "dataset", commit=source.revision)
    _publish_backbones(datasets, project, server)
    sets.write_text(yaml.safe_dump(datasets, allow_unicode=True))
    _publish_benchmarks(project / "config/benchmarks.yaml", server)


def _served(source: HubFile | WebFile, content: bytes, server: Loopback) -> dict[str, str]:
    if isinstance(source, HubFile):
        server.add_repository(source.repository, {source.file: content}, source.type, commit=source.revision)
        return source.model_dump()
    path = source.url.partition("://")[2]
    server.files[f"/{path}"] = content
    return {"url": f"{server.url}/{path}"}


def _publish_backbones(datasets: dict[str, Any], project: Project, server: Loopback) -> None:
    resources = project / "workflow/resources/mini/backbones"
    for name, folder in (("clip_vit_large_336", "clip"), ("qwen15_7b_chat", "qwen")):
        files = {path.name: path.read_bytes() for path in (resources / folder).iterdir() if path.is_file()}
        entry = datasets[name]
        del entry["shape"]
        if "pickle" in entry:
            content = io.BytesIO()
            torch.save(load_file(resources / folder / "model.safetensors"), content)
            del files["model.safetensors"]
            files[entry["pickle"]["file"]] = content.getvalue()
            entry["pickle"]["sha256"] = hashlib.sha256(content.getvalue()).hexdigest()
        source = HubFolder.model_validate(entry["source"])
        server.add_repository(source.repository, files, commit=source.revision)


def _publish_benchmarks(path: Path, server: Loopback) -> None:
    entries = yaml.safe_load(path.read_text())
    for entry in entries.values():
        benchmark = Benchmark.model_validate(entry)
        if isinstance(benchmark.source, str):
            continue
        published = {}
        for language, file in benchmark.files.items():
            content = tsv(benchmark)
            entry["rows"] = content.count(b"\n") - 1
            entry["md5"][language] = hashlib.md5(content).hexdigest()
            published[benchmark.published_as.get(language, file)] = content
        if isinstance(benchmark.source, WebFolder):
            folder = benchmark.source.url.partition("://")[2]
            server.files |= {f"/{folder}/{file}": content for file, content in published.items()}
            entry["source"] = {"url": f"{server.url}/{folder}"}
        else:
            source = benchmark.source
            files = {f"{source.folder}/{file}": content for file, content in published.items()}
            server.add_repository(source.repository, files, "dataset", commit=source.revision)
    path.write_text(yaml.safe_dump(entries, allow_unicode=True))
