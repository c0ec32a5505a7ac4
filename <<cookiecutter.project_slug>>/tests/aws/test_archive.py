"""Archives: the same bytes for the same files, and nothing unpacked that a model does not need."""

import gzip
import hashlib
import io
import tarfile

import pytest

from scarcegan.aws.archive import pack, pack_into, packed_digest, unpack


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
    with pytest.raises(tarfile.ExtractError):
        unpack(tmp_path / "x.tar", tmp_path / "out", below)


def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path):
    with (tmp_path / "x.tar.gz").open("wb") as raw:
        pack_into(raw, {"../out.txt": b"x"})
    with pytest.raises(tarfile.ExtractError):
        unpack(tmp_path / "x.tar.gz", tmp_path / "in")
