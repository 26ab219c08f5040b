"""What the catalogues of ``config/`` may say: conversation sets, backbones and benchmarks, each by its name.

Estimates and shapes describe what is not on this machine, so that it can be planned for before it is fetched. No stage
reads them, so that better figures make no result out of date.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, WithJsonSchema
from typing_extensions import TypeAliasType

from parrot.config.base import Distinct, FileName, PathInside, Placed, Several, StrictModel, Text, validate
from parrot.config.strict_yaml import read_yaml
from parrot.constants import LANGUAGES, nearest_language
from parrot.errors import UserError, nearest
from parrot.io.web import check_address


def _of_the_table(code: str) -> str:
    if code not in LANGUAGES:
        raise ValueError(f"expected a language of parrot/languages.csv, found {code!r}; {nearest_language(code)}")
    return code


Language = TypeAliasType(
    "Language", Annotated[str, AfterValidator(_of_the_table), WithJsonSchema({"enum": [*LANGUAGES], "type": "string"})]
)
Address = Annotated[str, AfterValidator(check_address)]
Repository = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=200)
]
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=200)]
RepositoryType = Literal["dataset", "model"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Size = Annotated[int, Field(gt=0, le=1 << 24)]
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
DOWNLOADS = Path("data/hub")  # beside what the data pins hold


class VisionShape(StrictModel):
    """Sizes of a CLIP vision encoder, by the names of its config.json."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    image_size: Size
    patch_size: Size


class TextShape(StrictModel):
    """Sizes of a Qwen2-like language model, by the names of its config.json."""

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size
    vocab_size: Size
    tie_word_embeddings: bool = False


class SampleEstimate(StrictModel):
    """So many samples of about the same lengths, in tokens of the language model."""

    samples: int = Field(gt=0)
    text: int = Field(gt=0, description="text tokens, system prompt and role markers included, visual tokens not")
    supervised: int = Field(gt=0, description="those of the answers")
    images: Literal[0, 1] = 1


class ConversationEstimate(StrictModel):
    """A conversation set that is not tokenised yet."""

    groups: Several[SampleEstimate] = Field(min_length=1)
    gigabytes: float = Field(0, ge=0, description="images on disk that no other set counts")
    source: str = Field(description="where the figures come from")


class HubFile(StrictModel):
    """One file of a Hugging Face hub repository, at a fixed revision."""

    repository: Repository
    file: PathInside
    revision: Revision = "main"
    type: RepositoryType = "dataset"


class HubFolder(StrictModel):
    """A folder of a Hugging Face hub repository ("" for all of it), at a fixed revision; file names are kept."""

    repository: Repository
    folder: PathInside = ""
    revision: Revision = "main"


class WebFile(StrictModel):
    """One file of a web server."""

    url: Address


class WebFolder(StrictModel):
    """A folder of a web server; file names are kept."""

    url: Address = Field(description="without the last slash")


class ArchiveFile(StrictModel):
    """A file of an archive, as published."""

    LARGEST: ClassVar = 2**53  # bytes
    bytes: int | None = Field(None, gt=0, description="checked where given")
    sha256: Sha256 | None = None
    md5: Md5 | None = None


class ImageArchive(ArchiveFile):
    """An archive of images, which stays as it was published; sets read its members."""

    file: PathInside = Field(description="where it lies; volumes of a split ZIP lie beside it: .z01, .z02 and so on")
    fields: Distinct[Text] = Field(min_length=1, description="how samples' `image` fields of its members begin")
    folder: str = Field("", description="where fields go on within the archive; one around all members may be missing")
    volumes: dict[Annotated[str, Field(pattern="^z[0-9]{2}$")], ArchiveFile] = Field(
        default_factory=dict, description="of a split ZIP, all but the last, which is the entry's file"
    )
    members: int | None = Field(None, gt=0, description="files in it; checked where given")
    unverified: Distinct[Literal["bytes", "sha256", "md5", "members", "fields", "folder", "licence"]] = Field(
        (), description="fields that no source confirms; they are never enforced"
    )
    licence: str
    sources: Several[HubFile | WebFile] = Field((), description="the same bytes, from the first that has them")

    @property
    def place(self) -> str:
        """Path that the rest of an `image` field is relative to."""
        return str(Path(self.file, self.folder))

    def enforced(self, field: str) -> Any:
        """Return a field's value, None where no source confirms it."""
        return None if field in self.unverified else getattr(self, field)


Fault = Literal[
    "image_mark_misplaced",  # `<image>` outside a human turn, more than once, or in a sample without an image
    "image_mark_missing",  # an image that no `<image>` stands for
    "image_cut",  # visual tokens that do not fit into max_length
    "nothing_supervised",  # no answer within max_length
    "blank_turn",  # a question or an answer of blanks alone
    "turn_order",  # a system turn that is not the first, an answer before any question
    "lone_surrogate",  # half of a character, which no tokeniser takes
    "over_limit",  # a text or an id beyond the config's `limits`
]


class Accepted(StrictModel):
    """Faulty samples of one kind that are left out of a set."""

    count: int = Field(gt=0, description="how many there are; another number is an error")
    reason: Text


class ConversationSet(Placed):
    """A LLaVA-style conversation JSON and its image folder."""

    kind: Literal["conversations"]
    file: Text = Field(description="JSON list of {id, image, conversations}")
    images: Text | Annotated[dict[str, Text], Field(min_length=1)] | Annotated[Distinct[Text], Field(min_length=1)] = (
        Field(
            description="folder or archive (.zip, .tar) of the samples' `image` fields, or name of images.yaml; or "
            "several, by how fields begin; or a list of names, whose entries say how fields begin"
        )
    )
    language: Language = "en"
    samples: int | None = Field(None, gt=0, description="expected number of samples; checked where given")
    sha256: Sha256 | None = Field(None, description="digest of the JSON file; checked where given")
    licence: str
    source: Literal["composed", "local", "unpublished"] | HubFile = Field(
        description="composed: made by `parrot fetch` from workflow/resources/mini; local: the user's own files; "
        "unpublished: nobody offers them, so that runs which name the set are left out unless its file is there"
    )
    ids: Literal["unique", "repeat"] = Field("unique", description="repeat: samples share ids, as LLaVA's mix does")
    accepted_losses: Distinct[Text] = Field((), description="sample ids whose image is known to be lost")
    accept: dict[Fault, Accepted] = Field(
        default_factory=dict,
        description="faulty samples that are left out, by the kind of fault; all others are errors",
    )
    estimate: ConversationEstimate | None = Field(None, exclude=True, description="for `parrot plan` alone")

    @property
    def image_places(self) -> dict[str, str]:
        """Folders and archives, by what a sample's `image` begins with."""
        assert not isinstance(self.images, tuple), "`in_archives` has resolved names"
        return {"": self.images} if isinstance(self.images, str) else self.images

    def place_of(self, image: str) -> tuple[str, str]:
        """Return the folder or archive of a sample's `image`, and its path there; ValueError if no prefix begins it."""
        prefix = max((prefix for prefix in self.image_places if image.startswith(prefix)), key=len)
        return self.image_places[prefix], image.removeprefix(prefix)

    def image_path(self, image: str) -> str:
        """Return the path of a sample's `image`; ValueError as `place_of`."""
        return str(Path(*self.place_of(image)))


class PickledWeights(StrictModel):
    """Weights of a repository without safetensors, which are converted once; nothing else reads the pickle."""

    file: FileName
    sha256: Sha256 = Field(description="compared before anything of the file is parsed")


class BackboneFolder(Placed):
    """A pretrained model folder in transformers' format (config.json and safetensors)."""

    kind: Literal["backbone"]
    path: Text
    sha256: Sha256 | None = Field(None, description="digest of model.safetensors; checked where given")
    pickle: PickledWeights | None = Field(None, description="weights, where the source has no safetensors")
    licence: str
    source: Literal["shipped", "local"] | HubFolder
    shape: VisionShape | TextShape | None = Field(None, exclude=True, description="for `parrot plan` alone")


Dataset = Annotated[ConversationSet | BackboneFolder, Field(discriminator="kind")]


def named_model(name: str, revision: str | None, catalogue: Mapping[str, Dataset], where: str) -> BackboneFolder:
    """Return the model folder that `name` stands for: a backbone of the catalogue, a folder, or a hub repository.

    Raises:
        UserError: the name is none of them, or a `revision` is given for what is no hub repository. The line begins
            with `where`.
    """
    entry = catalogue.get(name)
    if not isinstance(entry, BackboneFolder) and not os.path.isdir(name) and REPOSITORY.fullmatch(name):
        folder = name.replace("/", "--") + (f"@{revision}" if revision else "")
        source = HubFolder(repository=name, revision=revision or "main")
        return BackboneFolder(kind="backbone", path=str(DOWNLOADS / folder), licence="", source=source)
    if revision is not None:
        raise UserError(f"{where}: expected a hub repository beside a revision, and {name} is none")
    if isinstance(entry, BackboneFolder):
        return entry.model_copy(update={"licence": ""})
    if os.path.isdir(name):
        return BackboneFolder(kind="backbone", path=name, licence="", source="local")
    known = ", ".join(sorted(other for other, found in catalogue.items() if isinstance(found, BackboneFolder)))
    raise UserError(
        f"{where}: no folder {name}, no hub repository (owner/name), and no backbone of config/datasets.yaml, "
        f"which has {known}"
    )


def in_archives(entry: ConversationSet, archives: Mapping[str, ImageArchive], where: str) -> ConversationSet:
    """Return a set whose `images` are paths, where it names `archives`.

    Raises:
        UserError: a name is unknown, or fields of two archives begin alike. The line begins with `where`.
    """
    if not isinstance(entry.images, tuple):
        named = entry.image_places
    elif unknown := [name for name in entry.images if name not in archives]:
        raise UserError(f"{where}: images: {unknown[0]} is not in images.yaml; {nearest(unknown[0], archives)}")
    else:
        together = [(begins, name) for name in entry.images for begins in archives[name].fields]
        named = dict(together)
        if len(named) < len(together):
            raise UserError(f"{where}: images: fields of two archives begin alike")
    places = {begins: archives[name].place if name in archives else name for begins, name in named.items()}
    return entry if places == named else entry.model_copy(update={"images": places})


def load_catalogue(path: str | Path, kind: Any) -> dict[str, Any]:
    """Read a catalogue: a mapping from names to entries of one kind."""
    return {name: validate(kind, entry, f"{path}: {name}") for name, entry in read_yaml(path).items()}
