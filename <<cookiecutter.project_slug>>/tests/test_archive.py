"""Archives: the same bytes for the same files, and nothing unpacked that a model does not need."""

import errno
import gzip
import hashlib
import io
import random
import tarfile
import tracemalloc

import pytest

from scarcegan import archive as archives
from scarcegan.archive import pack, pack_into, packed_digest, unpack
from scarcegan.errors import UserError


def test_the_same_files_give_the_same_bytes_whenever_and_from_wherever_they_are_packed(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one")
    stream = io.BytesIO()
    pack_into(stream, {"folder/a.txt": b"one"})
    assert pack({"folder/a.txt": tmp_path / "a.txt"}, tmp_path / "x.tar.gz").read_bytes() == stream.getvalue()


def test_the_bytes_are_those_of_every_machine_whatever_its_zlib(tmp_path):
    """Compressed bytes differ between versions of zlib, so a digest of them could not be computed again elsewhere."""
    files = {"a.txt": b"one" * 5, "model/" + "x" * 120: b"\0" * 10, "\u00fc": b""}
    digest = "b9b592ed0787efb2ea05c707d36186eac16122470d41f07fa12825c435ad0250"
    pack(as_paths(tmp_path, files), tmp_path / "x.tar.gz")
    assert hashlib.sha256((tmp_path / "x.tar.gz").read_bytes()).hexdigest() == digest
    assert packed_digest(files) == packed_digest(as_paths(tmp_path, files)) == digest


@pytest.mark.parametrize("size", [0, 1, 0xFFFF - 1536, 0xFFFF, 0x10000, 300_000])
def test_gzip_itself_reads_what_was_packed(tmp_path, size):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    pack_into(stream := io.BytesIO(), {"a.bin": content})
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(stream.getvalue()))) as archive:
        assert archive.extractfile("a.bin").read() == content
    (tmp_path / "x.tar.gz").write_bytes(stream.getvalue())
    assert (unpack(tmp_path / "x.tar.gz", tmp_path / "out") / "a.bin").read_bytes() == content


def as_paths(folder, files):
    """The same files on disk."""
    paths = {name: folder / f"{number}.bin" for number, name in enumerate(files)}
    for name, path in paths.items():
        path.write_bytes(files[name])
    return paths


def test_what_lies_below_a_folder_is_unpacked_without_the_folders_name(tmp_path):
    with (tmp_path / "x.tar.gz").open("wb") as raw:
        pack_into(raw, {"models/best/model.json": b"{}", "curves/curves.csv": b""})
    unpack(tmp_path / "x.tar.gz", tmp_path / "out", "models")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")] == [
        "best/model.json"
    ]


@pytest.mark.parametrize(
    ("name", "kind", "below"), [("link", tarfile.SYMTYPE, ""), ("other/link", tarfile.LNKTYPE, "m")]
)
def test_a_link_is_refused_wherever_it_stands(tmp_path, name, kind, below):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(UserError, match="was not unpacked: "):
        unpack(tmp_path / "x.tar", tmp_path / "out", below)


def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path):
    with (tmp_path / "x.tar.gz").open("wb") as raw:
        pack_into(raw, {"../out.txt": b"x"})
    with pytest.raises(UserError, match="was not unpacked: "):
        unpack(tmp_path / "x.tar.gz", tmp_path / "in")


def tar_of(path, names):
    with tarfile.open(path, "w") as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"x"))
    return path


@pytest.mark.parametrize("names", [["a/b", "a"], ["a", "a/b"], [".."], ["."], ["x" * 300]])
def test_names_that_cannot_all_be_files_are_refused_with_a_sentence(tmp_path, names):
    with pytest.raises(UserError, match=r"x\.tar was not unpacked: "):
        unpack(tar_of(tmp_path / "x.tar", names), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


@pytest.mark.parametrize("name", ["b", "b/c"])
def test_where_a_folder_or_a_file_is_in_the_way_nothing_is_unpacked(tmp_path, name):
    """A file cannot replace a folder, and nothing lies below a file."""
    out = tmp_path / "out"
    in_the_way = out / "b"
    if name == "b":
        in_the_way.mkdir(parents=True)
    else:
        out.mkdir()
        in_the_way.write_text("old")
    with pytest.raises(UserError, match="is in the way"):
        unpack(tar_of(tmp_path / "x.tar", ["a", name]), out)
    assert [path.name for path in out.iterdir()] == ["b"]


def test_a_full_disk_is_no_fault_of_the_archive(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(tar_of(tmp_path / "x.tar", ["a"]), tmp_path / "out")


def packed(path, files):
    with path.open("wb") as raw:
        pack_into(raw, files)
    return path


@pytest.mark.parametrize("left", [0.1, 0.5, 0.9, 0.999])
def test_of_an_archive_that_is_cut_off_nothing_is_unpacked(tmp_path, left):
    whole = packed(tmp_path / "x.tar.gz", {f"{name}.bin": random.Random(name).randbytes(5000) for name in range(20)})
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * left)])
    with pytest.raises(UserError, match=r"x\.tar\.gz was not unpacked: .* Copy or train it again"):
        unpack(whole, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar.gz"]


def test_what_was_there_before_a_refused_archive_stays_as_it_was(tmp_path):
    with (tmp_path / "x.tar.gz").open("wb") as raw:
        pack_into(raw, {"a.txt": b"new", "../out.txt": b"x"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("old")
    with pytest.raises(UserError):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_text() == "old"


@pytest.mark.parametrize("changed", [b"no archive at all", b"\x1f\x8bno archive at all", b""])
def test_a_file_that_is_no_archive_is_refused_with_a_sentence(tmp_path, changed):
    (tmp_path / "x.tar.gz").write_bytes(changed)
    with pytest.raises(UserError, match="It is damaged, or this project did not write it"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")


def test_a_small_archive_of_very_much_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    zeros = packed(tmp_path / "x.tar.gz", {"zeros": bytes(2**22)})
    zeros.write_bytes(gzip.compress(gzip.decompress(zeros.read_bytes())))
    for below in ("", "another"):
        with pytest.raises(UserError, match="more than 1,048,576 bytes of content"):
            unpack(zeros, tmp_path / "out", below)
    assert unpack(packed(tmp_path / "y.tar.gz", {"a": bytes(2**19)}), tmp_path / "out").is_dir()


def test_more_than_a_model_can_be_is_refused(tmp_path, monkeypatch):
    full = packed(tmp_path / "x.tar.gz", {str(name): random.Random(name).randbytes(100) for name in range(9)})
    with monkeypatch.context() as patch:
        patch.setattr(archives, "MOST_MEMBERS", 8)
        with pytest.raises(UserError, match="more than 8 files"):
            unpack(full, tmp_path / "out")
    monkeypatch.setattr(archives, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="more than 1,000 bytes of content"):
        unpack(full, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("a")
        entry.pax_headers = {"comment": "x" * 2**21}
        archive.addfile(entry)
    with pytest.raises(UserError, match="a header of 2,"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")


def long_name(size, kind=tarfile.GNUTYPE_LONGNAME):
    """A header of tar whose content is the name of the next file."""
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.GNU_FORMAT) + b"a" * size + bytes(-size % 512)


@pytest.mark.parametrize("count", [9, 5000])
def test_a_chain_of_long_names_is_refused_with_a_sentence(tmp_path, count):
    """tarfile calls itself for each."""
    (tmp_path / "x.tar").write_bytes(long_name(1) * count + tarfile.TarInfo("a").tobuf() + bytes(1024))
    with pytest.raises(UserError, match="more than 8 headers before one file"):
        unpack(tmp_path / "x.tar", tmp_path / "out")


def test_a_few_headers_before_one_file_are_read(tmp_path):
    (tmp_path / "y.tar").write_bytes(long_name(1) * 8 + tarfile.TarInfo("b").tobuf() + bytes(1024))
    assert [path.name for path in unpack(tmp_path / "y.tar", tmp_path / "out").iterdir()] == ["a"]
    links = long_name(1) + long_name(1, tarfile.GNUTYPE_LONGLINK)
    (tmp_path / "x.tar").write_bytes((links + tarfile.TarInfo("b").tobuf()) * 20 + bytes(1024))
    assert [path.name for path in unpack(tmp_path / "x.tar", tmp_path / "out").iterdir()] == ["a"]


def test_headers_of_one_file_and_of_all_together_are_limited(tmp_path, monkeypatch):
    entry = tarfile.TarInfo("d")
    entry.type = tarfile.DIRTYPE
    (tmp_path / "x.tar").write_bytes(long_name(600_000) * 2 + entry.tobuf() + bytes(1024))
    with pytest.raises(UserError, match="headers of more than 1,048,576 bytes before one file"):
        unpack(tmp_path / "x.tar", tmp_path / "out")
    monkeypatch.setattr(archives, "MOST_HEADERS", 2**21)
    (tmp_path / "x.tar").write_bytes((long_name(1_000_000) + entry.tobuf()) * 3 + bytes(1024))
    with pytest.raises(UserError, match="headers of more than 2,097,152 bytes in all"):
        unpack(tmp_path / "x.tar", tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_that_are_allowed_fill_a_small_part_of_the_register_functions_memory(tmp_path, kind):
    """Each keeps as much as it may, of other names, in letters that take four bytes each in memory."""
    entry = tarfile.TarInfo("d")
    entry.type = tarfile.DIRTYPE
    with (tmp_path / "x.tar").open("wb") as raw:
        for number in range(14):
            comment = {f"comment{number}": "x" * 1_000_000 + "\U0001f642"}
            raw.write(tarfile.TarInfo._create_pax_generic_header(comment, kind, "utf-8") + entry.tobuf())
        raw.write(bytes(1024))
    tracemalloc.start()
    unpack(tmp_path / "x.tar", tmp_path / "out")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
