"""Settings and limits of the service."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

__all__ = ["ADMIN_VARIABLE", "KEY_VARIABLE", "LOOPBACK", "ServiceSettings", "read_secrets"]

KEY_VARIABLE = "RETRIEVEALL_SERVE_KEY"
ADMIN_VARIABLE = "RETRIEVEALL_SERVE_ADMIN_TOKEN"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_SHORTEST_SECRET = 8


def _check_secret(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not (
        len(secret.get_secret_value()) >= _SHORTEST_SECRET
        and secret.get_secret_value().isascii()
        and secret.get_secret_value().isprintable()
        and " " not in secret.get_secret_value()
    ):
        raise ValueError(f"expected at least {_SHORTEST_SECRET} printable ASCII characters without blanks")
    return secret


Secret = Annotated[SecretStr | None, AfterValidator(_check_secret)]


class ServiceSettings(BaseModel):
    """Limits are per process; the server runs one process."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    key: Secret = Field(default=None, description="API key that every route but the health checks asks for")
    admin_token: Secret = Field(default=None, description="token that adds and removes languages; None: nobody can")
    hosts: tuple[str, ...] = Field(default=(), description="accepted Host headers, without port; empty: all")

    texts: int = Field(default=256, ge=1, description="texts of a request")
    stream_texts: int = Field(default=10_000, ge=1, description="texts of a streamed request")
    characters: int = Field(default=50_000, ge=1, description="characters of a text")
    body_bytes: int = Field(default=4 << 20, ge=1024, description="bytes of a request")
    body_seconds: float = Field(default=20.0, gt=0, description="time to send a request")
    seconds: float = Field(default=60.0, gt=0, description="time to answer a request")
    connections: int = Field(default=1024, ge=1, description="open connections")

    queue_texts: int = Field(default=1024, ge=1, description="texts that wait")
    queue_characters: int = Field(default=8_000_000, ge=1, description="characters that wait")
    batch_texts: int = Field(default=32, ge=1, description="texts that the model computes together")
    batch_characters: int = Field(default=16_000, ge=1, description="characters that the model computes together")
    batch_seconds: float = Field(default=0.005, ge=0, description="time that a text waits for others")
    drain_seconds: float = Field(default=30.0, gt=0, description="time for running requests after SIGTERM")

    upload_bytes: int = Field(default=256 << 20, ge=1024, description="bytes of an uploaded language, packed")
    unpacked_bytes: int = Field(default=1 << 30, ge=1024, description="bytes of an uploaded language, unpacked")
    upload_seconds: float = Field(default=300.0, gt=0, description="time to send an uploaded language")


def read_secrets(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """API key and admin token from the environment: on a command line every user of the machine could read them."""
    environment = os.environ if environment is None else environment
    names = {"key": KEY_VARIABLE, "admin_token": ADMIN_VARIABLE}
    return {name: environment[variable] for name, variable in names.items() if environment.get(variable)}
