"""Archives: the same bytes for the same files, and nothing unpacked that a model does not need."""

import io
import tarfile

import pytest

from scarcegan.aws.archive import pack, pack_into, unpack


def test_the_same_files_give_the_same_bytes_whenever_and_from_wherever_they_are_packed(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one")
    stream = io.BytesIO()
    pack_into(stream, {"folder/a.txt": b"one"})
    assert pack({"folder/a.txt": tmp_path / "a.txt"}, tmp_path / "x.tar.gz").read_bytes() == stream.getvalue()


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
