"""The manifest finds damage and names the file."""

from __future__ import annotations

import os

import pytest
from folders import OLD, make_old

from retrieveall.errors import ModelFolderError, UnsafeFileError
from retrieveall.storage import Manifest


def test_the_manifest_finds_damage_and_names_it(tmp_path):
    make_old(tmp_path / "m")
    manifest = Manifest.load(tmp_path / "m")
    assert sorted(manifest.files) == sorted(OLD)
    manifest.verify()
    path = tmp_path / "m/adapters/de/extra.txt"
    data = path.read_bytes()
    for index in range(len(data)):
        path.write_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
        with pytest.raises(ModelFolderError, match=r"de/extra\.txt was altered"):
            manifest.verify()
    manifest.verify(full=False)
    manifest.verify("adapters/fr")
    manifest.verify("adapters/d")  # a prefix is a file or a folder, not a beginning of a name
    path.write_bytes(data[:-1])
    with pytest.raises(ModelFolderError, match=r"extra\.txt is truncated: expected 19 bytes, found 18"):
        manifest.verify("adapters/de", full=False)
    path.unlink()
    with pytest.raises(ModelFolderError, match=r"extra\.txt is missing"):
        manifest.verify("adapters/de/extra.txt", full=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nonsense",
        '{"format": 2, "files": {}}',
        '{"format": 1}',
        '{"format": 1, "files": {"a": 1}}',
        '{"format": 1, "files": {"a": {"sha256": "x", "size": 1}}}',
        '{"format": 1, "files": {"a": {"sha256": "' + "0" * 64 + '", "size": -1}}}',
        '{"format": 1, "files": {"a": {"sha256": "' + "0" * 64 + '", "size": true}}}',
    ],
)
def test_malformed_manifests(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ModelFolderError, match=r"manifest\.json"):
        Manifest.load(tmp_path)


def test_a_folder_without_manifest(tmp_path):
    assert Manifest.find(tmp_path) is None
    with pytest.raises(ModelFolderError, match="is missing"):
        Manifest.load(tmp_path)


def test_a_manifest_that_is_a_link_out_of_the_folder(tmp_path):
    make_old(tmp_path / "m")
    (tmp_path / "m/manifest.json").rename(tmp_path / "outside.json")
    (tmp_path / "m/manifest.json").symlink_to(tmp_path / "outside.json")
    for read in (Manifest.load, Manifest.find):
        with pytest.raises(UnsafeFileError, match="link out of its folder"):
            read(tmp_path / "m")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    make_old(tmp_path / "m")
    (tmp_path / "m/pipe").touch()
    manifest = Manifest.of(tmp_path / "m")
    (tmp_path / "m/pipe").unlink()
    os.mkfifo(tmp_path / "m/pipe")
    with pytest.raises(ModelFolderError, match=r"expected a regular file, .*pipe is not one"):
        manifest.verify()
    assert "pipe" not in Manifest.of(tmp_path / "m").files
    (tmp_path / "m/manifest.json").unlink()
    os.mkfifo(tmp_path / "m/manifest.json")
    with pytest.raises(ModelFolderError, match=r"expected a regular file, .*manifest\.json is not one"):
        Manifest.load(tmp_path / "m")
