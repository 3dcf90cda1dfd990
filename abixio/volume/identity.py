"""volume.json: which deployment and slot a directory belongs to, and who the other members are.

Kept as JSON so that a person can read it when nothing else works. Written only whole. Fields that a newer version added
are carried along, unless it listed a feature in `incompat` that this one does not know: then the volume is refused.
"""

from __future__ import annotations

from enum import Enum
from os.path import basename
from typing import Any, Final

import msgspec

from abixio.errors import IdentityDamaged, StartupError
from abixio.volume import names
from abixio.volume.files import Files, volume_error

FORMAT: Final = 1
MAGIC: Final = "abixio volume"
_KNOWN_INCOMPAT: Final[frozenset[str]] = frozenset()
_KNOWN_RO_COMPAT: Final[frozenset[str]] = frozenset()
_HARMLESS: Final = frozenset(("lost+found",))
"""What a fresh file system holds."""


class Look(Enum):
    """What stands at a path, before anything is opened."""

    MISSING = "there is no such directory"
    EMPTY = "an empty directory"
    HALF = "a format that was cut short; nothing was ever stored here"
    FORMATTED = "a volume"
    FOREIGN = "something else"


class Member(msgspec.Struct, frozen=True):
    """One slot of the pool, as this volume remembers it."""

    slot: int
    volume: str
    """uuid, 32 hex digits."""
    mount_point: bool = False
    """Whether the directory was a mount point when the volume was formatted: if it is none now, the disk is not mounted."""
    unknown: dict[str, Any] = {}


class Identity(msgspec.Struct, frozen=True):
    """The content of volume.json."""

    deployment: str
    """uuid, 32 hex digits, the same on all members."""
    slot: int
    volume: str
    """uuid of this volume, new for each format."""
    epoch: int
    """Of the membership: grows when a member is replaced; the highest epoch's list of members is the right one."""
    members: tuple[Member, ...]
    created: int
    """ms since 1970."""
    pool: int = 0
    format: int = FORMAT
    incompat: tuple[str, ...] = ()
    """Features without which a reader goes wrong."""
    ro_compat: tuple[str, ...] = ()
    """Features without which a writer goes wrong."""
    compat: tuple[str, ...] = ()
    """Features that may be ignored."""
    unknown: dict[str, Any] = {}
    """Fields of a newer version, kept as they are."""

    def member(self, slot: int) -> Member | None:
        """The member that the list names for that slot."""
        return next((member for member in self.members if member.slot == slot), None)


def pack(identity: Identity) -> bytes:
    """The file's content; ends with a line feed, as files for people do."""
    known = {"magic": MAGIC} | _flat(identity)
    known["members"] = [_flat(member) for member in identity.members]
    return msgspec.json.format(msgspec.json.encode(known), indent=2) + b"\n"


def _flat(struct: msgspec.Struct) -> dict[str, Any]:
    fields = {name: getattr(struct, name) for name in struct.__struct_fields__ if name != "unknown"}
    unknown: dict[str, Any] = struct.unknown  # type: ignore[attr-defined]
    return fields | unknown


def unpack(data: bytes, volume: str) -> Identity:
    """StartupError, naming the directory, for anything that is not a volume.json that this version understands."""
    where = names.identity(volume)
    try:
        content = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IdentityDamaged(f"{where}: is damaged ({error}); restore it from a copy or replace the volume") from error
    if not isinstance(content, dict) or content.get("magic") != MAGIC:
        raise StartupError(f"{where}: is not from abixio; name another directory")
    version = content.get("format")
    if version != FORMAT:
        raise StartupError(f"{where}: has format {version!r}, this version of abixio knows {FORMAT}; use the one that wrote it")
    try:
        identity = _identity(content)
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise IdentityDamaged(f"{where}: is damaged ({error}); restore it from a copy or replace the volume") from error
    missing = set(identity.incompat) - _KNOWN_INCOMPAT | set(identity.ro_compat) - _KNOWN_RO_COMPAT
    if missing:
        raise StartupError(f"{where}: needs {', '.join(sorted(missing))}, which this version of abixio lacks; use a newer one")
    return identity


def _identity(content: dict[str, Any]) -> Identity:
    members = [_split(member, Member) for member in msgspec.convert(content["members"], list[dict[str, Any]])]
    fields = _split({name: value for name, value in content.items() if name != "magic"}, Identity)
    return msgspec.convert(fields | {"members": members}, Identity)


def _split(content: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    known = set(kind.__struct_fields__) - {"unknown"}
    fields = {name: value for name, value in content.items() if name in known}
    return fields | {"unknown": {name: value for name, value in content.items() if name not in known}}


def look(files: Files, volume: str) -> Look:
    """What stands at `volume`. StartupError when the disk does not even tell that."""
    try:
        if not files.exists(volume):
            return Look.MISSING
        if files.exists(names.identity(volume)):
            return Look.FORMATTED
        if files.exists(names.formatting(volume)):
            return Look.HALF
        held = set(files.names(volume)) - _HARMLESS
        home = names.home(volume)
        if held == {basename(home)} and set(files.names(home)) <= {basename(names.lock(volume))}:
            return Look.HALF  # before its first step was done
        return Look.FOREIGN if held else Look.EMPTY
    except OSError as error:
        raise IdentityDamaged(f"{volume}: cannot be read: {error.strerror}") from error


def read(files: Files, volume: str) -> Identity:
    """StartupError when the file is missing, unreadable or not understood."""
    try:
        return unpack(files.read(names.identity(volume)), volume)
    except OSError as error:
        raise IdentityDamaged(f"{names.identity(volume)}: cannot be read: {error.strerror}") from error


def write(files: Files, volume: str, identity: Identity) -> None:
    """Put it there, whole and durable; VolumeError."""
    try:
        files.replace(names.identity(volume), pack(identity))
    except OSError as error:
        raise volume_error(error, f"{names.identity(volume)}: cannot be written") from error


def read_credentials(files: Files, volume: str) -> bytes | None:
    """The credentials file as it is, None when there is none; VolumeError."""
    try:
        return files.read(names.credentials(volume)) if files.exists(names.credentials(volume)) else None
    except OSError as error:
        raise volume_error(error, f"{names.credentials(volume)}: cannot be read") from error


def write_credentials(files: Files, volume: str, data: bytes) -> None:
    """Readable by the owner only, from its first byte on; VolumeError."""
    try:
        files.replace(names.credentials(volume), data, 0o600)
    except OSError as error:
        raise volume_error(error, f"{names.credentials(volume)}: cannot be written") from error


def read_keys(files: Files, volume: str) -> bytes | None:
    """The key file as it is, None when there is none; VolumeError."""
    try:
        return files.read(names.keys(volume)) if files.exists(names.keys(volume)) else None
    except OSError as error:
        raise volume_error(error, f"{names.keys(volume)}: cannot be read") from error


def write_keys(files: Files, volume: str, data: bytes) -> None:
    """Readable by the owner only, from its first byte on; VolumeError."""
    try:
        files.replace(names.keys(volume), data, 0o600)
    except OSError as error:
        raise volume_error(error, f"{names.keys(volume)}: cannot be written") from error
