"""Members of archives are read as the files that went in; what is cut, damaged or unreadable is named in one line."""

import io
import os
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from parrot.errors import UserError
from parrot.io.archives import Archive, find, open_archive
from parrot.io.files import split_path

# Made by Info-ZIP 3.0: zip -X -0 -s 64k split.zip a/1.jpg a/2.jpg a/3.jpg, each 50,000 bytes of its number.
VOLUMES = Path(__file__).with_name("volumes")
FILES = {f"a/{n}.jpg": bytes([n % 256]) * n * 100 for n in range(40)} | {"a/imagem-é.jpg": b"named in NFC"}


@pytest.fixture
def zipped(tmp_path):
    """Every second file is stored, the others are deflated."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.mkdir("a")
        for number, (name, content) in enumerate(FILES.items()):
            file.writestr(name, content, zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED)
    return tmp_path / "x.zip"


@pytest.fixture
def tarred(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return tmp_path / "x.tar"


@pytest.mark.parametrize("kind", ["zipped", "tarred"])
def test_members_are_the_files_that_went_in(kind, request):
    archive = Archive(str(request.getfixturevalue(kind)))
    assert {name: archive.read(name) for name in archive.names()} == FILES


def test_members_of_volumes_are_read_across_their_ends(tmp_path):
    for volume in VOLUMES.iterdir():
        (tmp_path / volume.name).write_bytes(volume.read_bytes())
    archive = Archive(str(tmp_path / "split.zip"))
    assert {name: archive.read(name) for name in archive.names()} == {
        f"a/{n}.jpg": bytes([n]) * 50000 for n in (1, 2, 3)
    }
    assert {archive.find(name).volume for name in archive.names()} == {0, 1}


def test_more_files_than_sixteen_bits_count_are_all_there(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for number in range(66_000):
            file.writestr(zipfile.ZipInfo(f"{number}.jpg"), b"%d" % number)
    archive = Archive(str(tmp_path / "x.zip"))
    assert len(archive) == 66_000
    assert [archive.read(f"{n}.jpg") for n in (0, 41_000, 65_999)] == [b"0", b"41000", b"65999"]


def test_sizes_beyond_thirty_two_bits_are_read_from_the_wide_field(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file, file.open("a.jpg", "w", force_zip64=True) as member:
        member.write(b"small")
    content = (tmp_path / "x.zip").read_bytes()
    # The list of files as a writer makes it that knows no sizes beforehand: both at their limit, and the wide field.
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry = bytearray(content[start:end])
    wide = b"\1\0\x10\0" + (5).to_bytes(8, "little") * 2
    entry[20:28], entry[30:32] = b"\xff" * 8, len(wide).to_bytes(2, "little")
    entry = bytes(entry[:46]) + b"a.jpg" + wide
    last = bytearray(content[end:])
    last[12:16] = len(entry).to_bytes(4, "little")
    (tmp_path / "y.zip").write_bytes(content[:start] + entry + last)
    assert zipfile.ZipFile(tmp_path / "y.zip").read("a.jpg") == b"small"
    assert Archive(str(tmp_path / "y.zip")).read("a.jpg") == b"small"


def test_bytes_before_an_archive_move_its_offsets(zipped):
    zipped.write_bytes(b"#!/bin/sh\n" * 1000 + zipped.read_bytes())
    assert Archive(str(zipped)).read("a/7.jpg") == FILES["a/7.jpg"]


def test_a_name_is_found_in_any_of_three_unicode_forms(zipped):
    for form in ("NFC", "NFD", "NFKD"):
        path = f"{zipped}/{unicodedata.normalize(form, 'a/imagem-é.jpg')}"
        assert find(path).name == "a/imagem-é.jpg"
    with zipfile.ZipFile(zipped, "a") as file:
        file.writestr(unicodedata.normalize("NFKD", "a/ç.jpg"), b"named in NFKD")
    open_archive.cache_clear()
    assert find(f"{zipped}/a/ç.jpg").size == len(b"named in NFKD")


def test_a_path_goes_through_an_archive_only_where_a_file_is_one(tmp_path, zipped):
    assert split_path(f"{zipped}/a/1.jpg") == (str(zipped), "a/1.jpg")
    (tmp_path / "folder.zip").mkdir()
    assert split_path(f"{tmp_path}/folder.zip/1.jpg") is None
    assert find(f"{tmp_path}/folder.zip/1.jpg") is None
    assert find(f"{zipped}/a/none.jpg") is None


def test_the_index_is_built_once_and_again_when_the_archive_changes(zipped):
    Archive(str(zipped))
    index = zipped.with_name("x.zip.index")
    before = index.stat().st_mtime_ns
    Archive(str(zipped))
    assert index.stat().st_mtime_ns == before
    with zipfile.ZipFile(zipped, "a") as file:
        file.writestr("later.jpg", b"later")
    assert Archive(str(zipped)).read("later.jpg") == b"later"
    index.write_bytes(index.read_bytes()[:-100])
    assert Archive(str(zipped)).read("later.jpg") == b"later"


def test_processes_that_start_together_share_one_index(zipped):
    code = "import sys; from parrot.io.archives import Archive; print(len(Archive(sys.argv[1])))"
    started = [subprocess.Popen([sys.executable, "-c", code, zipped], stdout=subprocess.PIPE) for _ in range(3)]
    assert [int(each.communicate()[0]) for each in started] == [len(FILES)] * 3
    assert sorted(path.name for path in zipped.parent.iterdir()) == ["x.zip", "x.zip.index"]


def test_a_forked_process_reads_beside_its_parent(zipped):
    archive = Archive(str(zipped))
    archive.read("a/1.jpg")
    child = os.fork()
    if child == 0:
        os._exit(0 if all(archive.read(name) == content for name, content in FILES.items()) else 1)
    assert all(archive.read(name) == content for name, content in FILES.items())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def flipped(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"a/38.jpg") + 100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("members", "name", "found"),
    [
        (["images/0/1.jpg", "images/2/3.jpg"], "2/3.jpg", "images/2/3.jpg"),
        (["sam/images/1.jpg", "sam/images/2.jpg"], "2.jpg", "sam/images/2.jpg"),
        (["1.jpg", "2.jpg"], "images/2.jpg", "2.jpg"),
        (["data/images/1.jpg"], "images/1.jpg", "data/images/1.jpg"),
        (["images/1.jpg", "2.jpg"], "images/2.jpg", None),
        (["a/1.jpg", "b/1.jpg"], "1.jpg", None),
    ],
)
def test_a_folder_around_all_members_may_be_there_or_not(tmp_path, members, name, found):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for member in members:
            file.writestr(member, b"content")
    member = Archive(str(tmp_path / "x.zip")).find(name)
    assert (member and member.name) == found


def test_a_file_that_inflates_beyond_its_stated_size_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.jpg", bytes(1_000_000))
        file.writestr("empty.jpg", b"")
    content = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "y.zip").write_bytes(content.replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert Archive(str(tmp_path / "x.zip")).read("empty.jpg") == b""
    with pytest.raises(UserError, match=r"y\.zip/a\.jpg: the archive is damaged there: expected 10 bytes with CRC"):
        Archive(str(tmp_path / "y.zip")).read("a.jpg")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flipped, r"x\.zip/a/38\.jpg: the archive is damaged there: "),
        (lambda path: path.write_bytes(path.read_bytes()[:-300]), r"x\.zip: expected a complete ZIP archive: no end"),
        (lambda path: path.write_bytes(b""), r"x\.zip: expected a complete ZIP archive: no end record$"),
        (lambda path: path.write_bytes(b"<html>503</html>"), r"x\.zip: expected a complete ZIP archive"),
        (lambda path: zipfile.ZipFile(path, "w").close(), r"x\.zip: expected an archive with files, found none"),
    ],
)
def test_damage_is_named(zipped, damage, message):
    damage(zipped)
    with pytest.raises(UserError, match=message):
        Archive(str(zipped)).read("a/38.jpg")


def test_a_tar_that_is_cut_is_refused(tarred):
    tarred.write_bytes(tarred.read_bytes()[:20_000])
    with pytest.raises(UserError, match=r"x\.tar: "):
        Archive(str(tarred))


def test_a_volume_that_is_missing_is_named(tmp_path):
    for name in ("split.zip", "split.z01"):
        (tmp_path / name).write_bytes((VOLUMES / name).read_bytes())
    with pytest.raises(
        UserError, match=r"split\.zip: .* expected 2 volumes \(\.z01, \.z02, \.\.\.\) beside it, found 1"
    ):
        Archive(str(tmp_path / "split.zip"))


def test_a_method_that_nobody_here_reads_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("a.jpg", b"a" * 1000)
    with pytest.raises(UserError, match=r"x\.zip/a\.jpg: expected a file stored or deflated, without a password"):
        Archive(str(tmp_path / "x.zip"))
