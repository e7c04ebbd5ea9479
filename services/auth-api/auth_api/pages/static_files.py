"""The stylesheet, scripts and images that pages use: read once, served from memory."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Named here because the system's tables differ from machine to machine.
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".gif": "image/gif",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}

_HASHED = re.compile(r"\A/static/[0-9a-f]{16}\.")


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent.

    Attributes:
        content: The body.
        media_type: For Content-Type.
        etag: A strong validator, quotes included.
        immutable: Its path names its content, so caches may keep it for as long as they like.
    """

    content: bytes
    media_type: str
    etag: str
    immutable: bool


@dataclass(frozen=True, slots=True)
class StaticFiles:
    """Files by the path they are served at, and the path of each file in `static/` by its name."""

    by_path: Mapping[str, StaticFile]
    urls: Mapping[str, str]

    def find(self, path: str) -> StaticFile | None:
        """The file at `path`; a hash we do not know may be another version's, met while instances are replaced."""
        return self.by_path.get(path) or self.by_path.get(_HASHED.sub("/static/", path))


def read_static_files(*folders: Path) -> StaticFiles:
    """Read every file below `folders`; a later folder's file replaces an earlier one's of the same name.

    `static/<name>` is served at `/static/<hash>.<name>`, and like all others at its own path, where the files of an
    operator can refer to each other.
    """
    contents = {path: content for folder in folders for path, content in _files(folder)}
    by_path: dict[str, StaticFile] = {}
    urls: dict[str, str] = {}
    for path, content in sorted(contents.items()):
        digest = hashlib.sha256(content).hexdigest()[:16]
        media_type = _MEDIA_TYPES.get(Path(path).suffix.lower(), "application/octet-stream")
        by_path[f"/{path}"] = StaticFile(content, media_type, f'"{digest}"', immutable=False)
        folder, _, name = path.rpartition("/")
        if folder == "static":
            urls[name] = f"/static/{digest}.{name}"
            by_path[urls[name]] = StaticFile(content, media_type, f'"{digest}"', immutable=True)
    return StaticFiles(by_path, urls)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            yield name, path.read_bytes()
