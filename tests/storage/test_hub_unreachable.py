"""A hub that cannot be reached is one error at once, not a minute of attempts."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from retrieveall.errors import ModelFolderError
from retrieveall.model_folder import ModelFolder
from retrieveall.storage.hub import fail_fast


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub at a port where nobody listens."""
    from huggingface_hub import constants

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{held.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield


@pytest.mark.usefixtures("closed_port")
def test_offline_inside_and_as_before_after_it() -> None:
    from huggingface_hub import constants

    def fails() -> None:
        with fail_fast("nobody/nothing"):
            assert constants.HF_HUB_OFFLINE
            raise ValueError("inner")

    with pytest.raises(ValueError, match="inner"):
        fails()
    assert not constants.HF_HUB_OFFLINE
    with fail_fast("."):  # a local folder needs no hub
        assert not constants.HF_HUB_OFFLINE


@pytest.mark.usefixtures("closed_port")
def test_a_model_of_an_unreachable_hub_is_one_error_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ModelFolderError, match="not reachable"):
        ModelFolder.open("nobody/nothing-here")
    assert time.monotonic() - started < 20
