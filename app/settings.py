"""Every setting in one frozen class; the only reader of the environment.

A setting is read from the environment variable ``QUERENT_<NAME>``; the two servers are read from the names that
hosting platforms use, ``DATABASE_URL`` and ``REDIS_URL``. The table of settings in the README is tested against this
class.
"""

from __future__ import annotations

import secrets
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import BadInput

SECRET_KEY_LENGTH = 32


class DeviceChoice(StrEnum):
    """Where the worker computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Settings(BaseSettings):
    """What can be set, with bounds; refuses unsafe values when the process starts."""

    model_config = SettingsConfigDict(env_prefix="QUERENT_", frozen=True, extra="ignore", populate_by_name=True)

    database_url: str | None = Field(
        None,
        validation_alias=AliasChoices("database_url", "DATABASE_URL"),
        description="Postgres to use; when unset, `querent` runs its own.",
    )
    redis_url: str | None = Field(
        None,
        validation_alias=AliasChoices("redis_url", "REDIS_URL"),
        description="Redis to use; when unset, `querent` runs its own.",
    )
    home: Path = Field(Path("~/.querent"), description="Folder of everything that Querent keeps on this machine.")
    storage_url: str | None = Field(None, description="Where images and weights are kept: a folder or an fsspec URL.")
    results: Path | None = Field(None, description="Folder of benchmark results; by default `results` in QUERENT_HOME.")
    host: str = Field("127.0.0.1", description="Address that the web server listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the web server listens on.")
    secret_key: str | None = Field(None, description="Signs sessions; at least 32 characters. Made at first start.")
    secure_cookies: bool = Field(False, description="Send cookies over HTTPS only; set it wherever HTTPS is used.")
    session_days: int = Field(14, ge=1, le=365, description="Days after which a person signs in again.")
    link_hours: int = Field(24, ge=1, le=24 * 30, description="Hours for which a one-time sign-in link works.")
    lease_seconds: int = Field(120, ge=5, le=86_400, description="Seconds for which an image is held for one person.")
    sweep_seconds: float = Field(5.0, ge=0.2, le=3600, description="Seconds between two repairs of what got lost.")
    fit_seconds: int = Field(3600, ge=5, le=7 * 86_400, description="Longest time that one fit may take, in seconds.")
    upload_megabytes: int = Field(2048, ge=1, le=1_000_000, description="Largest archive that can be uploaded.")
    device: DeviceChoice = Field(DeviceChoice.AUTO, description="Where the worker computes: auto, cpu or cuda.")
    demo: bool = Field(True, description="Make the project of handwritten digits at first start.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level that is logged.")

    @field_validator("home", "results")
    @classmethod
    def _expand(cls, folder: Path | None) -> Path | None:
        return None if folder is None else folder.expanduser().resolve()

    @field_validator("database_url")
    @classmethod
    def _name_the_driver(cls, url: str | None) -> str | None:
        if not url:
            return None
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
            raise ValueError("only PostgreSQL is supported; write postgresql://user:password@host/database")
        return f"postgresql+psycopg://{rest}"

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, url: str | None) -> str | None:
        if not url:
            return None
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("write redis://host:port/0, rediss://host:port/0 or unix:///path/to/socket")
        return url

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Settings:
        if self.secret_key is not None and len(self.secret_key) < SECRET_KEY_LENGTH:
            raise ValueError(f"QUERENT_SECRET_KEY must have at least {SECRET_KEY_LENGTH} characters")
        return self

    @property
    def storage(self) -> str:
        """Folder or URL under which blobs are kept."""
        return self.storage_url or str(self.home / "storage")

    @property
    def results_folder(self) -> Path:
        """Folder under which benchmarks keep their results."""
        return self.results or self.home / "results"

    @property
    def cache(self) -> Path:
        """Folder of what can be made again: arrays of pixels."""
        return self.home / "cache"

    @property
    def listens_beyond_this_machine(self) -> bool:
        """Whether other machines can reach the web server."""
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @cached_property
    def signing_key(self) -> str:
        """The secret that signs sessions: the setting, or one made once and kept in the home with mode 0600."""
        if self.secret_key:
            return self.secret_key
        path = self.home / "secret_key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{secrets.token_hex(4)}")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_urlsafe(SECRET_KEY_LENGTH))
            try:
                path.hardlink_to(fresh)  # of two processes that start at once, one makes the key and both read it
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text().strip()


def load_settings(**overrides: object) -> Settings:
    """Read the environment; values given by name win.

    Raises:
        BadInput: a value is missing, malformed or unsafe; names the variable and the reason.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        variable = name.upper() if name.lower() in {"database_url", "redis_url"} else f"QUERENT_{name.upper()}"
        raise BadInput(variable, first["msg"].removeprefix("Value error, "), "change it and start again") from error
