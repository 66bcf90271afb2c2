"""Untrusted files are checked before a library loads them."""

from __future__ import annotations

import ast
import json
import os
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieveall.errors import ModelFolderError, UnsafeFileError
from retrieveall.storage import check_safetensors, read_json, refuse_unsafe_weights


def safetensors_bytes(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int, end: int, shape: tuple[int, ...] = (2, 2), dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def test_dtypes_and_shapes_are_read_without_torch(tmp_path):
    header = {
        "__metadata__": {"format": "pt"},
        "a": entry(0, 24, (2, 3)),
        "b": entry(24, 32, (4,), "BF16"),
        "empty": entry(32, 32, (0, 3)),
        "scalar": entry(32, 40, (), "I64"),
        "flag": entry(40, 43, (3,), "BOOL"),
    }
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(header, bytes(43)))
    code = (
        "import sys, pathlib; from retrieveall.storage import check_safetensors; "
        "print(check_safetensors(pathlib.Path('x.safetensors')), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = {
        "a": ("F32", (2, 3)),
        "b": ("BF16", (4,)),
        "empty": ("F32", (0, 3)),
        "scalar": ("I64", ()),
        "flag": ("BOOL", (3,)),
    }
    found, _, torch = done.stdout.strip().rpartition(" ")
    assert ast.literal_eval(found) == expected
    assert torch == "False"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header too small"),
        (b"\x01\x02", "header too small"),
        (safetensors_bytes({}, length=1 << 62), "header too large"),
        (safetensors_bytes({}, length=99_999_999), "invalid header length"),
        (safetensors_bytes(b"{not json}"), "invalid JSON"),
        (safetensors_bytes(b"{" + b'"a":{' * 5000), "invalid JSON"),
        (safetensors_bytes(b'{"\xff":1}'), "invalid UTF-8"),
        (safetensors_bytes(b"[]"), "invalid JSON"),
        (safetensors_bytes({"x": [1]}), "invalid JSON"),
        (safetensors_bytes({"x": entry(0, 16), "y": entry(8, 24)}, bytes(24)), "offset for tensor `y`"),
        (safetensors_bytes({"x": entry(0, 16), "y": entry(0, 16)}, bytes(16)), r"offset for tensor `[xy]`"),
        (safetensors_bytes({"x": entry(8, 24)}, bytes(24)), "offset for tensor `x`"),
        (safetensors_bytes({"x": entry(16, 0)}, bytes(16)), "offset for tensor `x`"),
        (safetensors_bytes({"x": entry(0, 16)}, bytes(20)), "not fully covered"),
        (safetensors_bytes({"x": entry(0, 16)}, bytes(8)), "not fully covered"),
        (safetensors_bytes({"x": entry(0, 16, (2, 3))}, bytes(16)), "invalid shape"),
        (safetensors_bytes({"x": entry(0, 16, (10**9, 10**9, 10**9))}, bytes(16)), "overflow"),
        (safetensors_bytes({"x": entry(0, 16, (-2, -2))}, bytes(16)), "invalid value"),
        (safetensors_bytes({"x": entry(-8, 8)}, bytes(16)), "invalid value"),
        (safetensors_bytes({"x": entry(0, 16, dtype="PICKLE")}, bytes(16)), "unknown variant"),
        (safetensors_bytes({"a\nb" * 100_000: [0]}, bytes(16)), "invalid JSON"),
        (safetensors_bytes({"x": entry(0, 16, dtype="PICK\nLE" * 100_000)}, bytes(16)), "unknown variant"),
    ],
    ids=range(22),
)
def test_headers_that_lie(tmp_path, content, message):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFolderError, match=message) as caught:
        check_safetensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_header_is_refused_or_harmless(tmp_path_factory, data):
    """What passes the check can be loaded, with the dtypes and shapes that were said."""
    np = pytest.importorskip("numpy")
    from safetensors.numpy import load_file

    names = {"F32": "float32", "U8": "uint8", "F64": "float64", "U32": "uint32", "I32": "int32", "I8": "int8"}
    header = {"a": entry(0, 8, (2,)), "b": entry(8, 11, (1, 3), "U8")}
    content = bytearray(safetensors_bytes(header, bytes(11)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("h") / "x.safetensors"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else content)
    try:
        found = check_safetensors(path)
    except ModelFolderError:
        return
    if all(dtype in names for dtype, _ in found.values()):
        loaded = load_file(path)
        assert {name: (np.dtype(names[d]), shape) for name, (d, shape) in found.items()} == {
            name: (tensor.dtype, tensor.shape) for name, tensor in loaded.items()
        }


@pytest.mark.parametrize("length", [0x80, 0x4B50], ids=["first byte of a pickle", "first bytes of an archive"])
def test_a_header_of_any_length_is_no_pickle(tmp_path, length):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes(json.dumps({"x": entry(0, 16)}).encode().ljust(length), bytes(16)))
    assert check_safetensors(path) == {"x": ("F32", (2, 2))}


@pytest.mark.parametrize("start", [b"\x80\x04\x95", b"\x80\x02", b"PK\x03\x04"])
def test_a_pickle_or_archive_under_the_name_is_said_to_be_one(tmp_path, start):
    (tmp_path / "x.safetensors").write_bytes(start + b"x" * 50)
    with pytest.raises(UnsafeFileError, match="is a pickle, which can run code"):
        check_safetensors(tmp_path / "x.safetensors")


def test_a_huge_claimed_header_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:  # a sparse file of 8 GB
        file.write((7 << 30).to_bytes(8, "little") + b"{")
        file.truncate(8 << 30)
    with pytest.raises(ModelFolderError, match="header too large"):
        check_safetensors(path)


@pytest.mark.parametrize("check", [check_safetensors, read_json], ids=["safetensors", "JSON"])
class TestNoFile:
    def test_missing(self, tmp_path, check):
        for name in ("x", "no/x", "a\0b"):
            with pytest.raises(ModelFolderError, match=r"is missing"):
                check(tmp_path / name)

    def test_a_name_that_no_file_system_takes(self, tmp_path, check):
        with pytest.raises(ModelFolderError, match=r"could not read .* too long"):
            check(tmp_path / ("x" * 10_000))

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
    def test_a_folder_or_a_named_pipe(self, tmp_path, check):
        os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer for ever
        (tmp_path / "link").symlink_to(tmp_path / "pipe")
        for path in (tmp_path, tmp_path / "pipe", tmp_path / "link"):
            with pytest.raises(ModelFolderError, match=r"expected a regular file"):
                check(path)

    def test_a_loop_of_links(self, tmp_path, check):
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(ModelFolderError, match=r"could not read"):
            check(tmp_path / "loop")


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "ckpt", "BIN"])
def test_weights_that_could_only_be_unpickled(tmp_path, suffix):
    (tmp_path / f"model.{suffix}").write_bytes(b"")
    with pytest.raises(UnsafeFileError, match="safe_serialization=True"):
        refuse_unsafe_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    refuse_unsafe_weights(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "adapter_config.json"])
@pytest.mark.parametrize("body", [{"auto_map": {"x": "evil--m.Y"}}, {"a": {"b": [{"trust_remote_code": True}]}}])
def test_configurations_that_name_code(tmp_path, name, body):
    (tmp_path / name).write_text(json.dumps(body))
    with pytest.raises(UnsafeFileError, match=f"{name} asks to import code"):
        refuse_unsafe_weights(tmp_path)
    (tmp_path / name).write_text(json.dumps({"auto_map": {}, "trust_remote_code": False}))
    refuse_unsafe_weights(tmp_path)
