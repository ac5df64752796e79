"""The key by which a model server asks the platform's other servers."""

from pathlib import Path


class PlatformKey:
    """What the file holds now: keys may come into use, and change, while a server runs."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._headers: dict[str, str] = {}

    def headers(self) -> dict[str, str]:
        """Of a request; none without a file."""
        if self._path is None:
            return {}
        try:
            stat = self._path.stat()
            if (stat.st_ino, stat.st_mtime_ns) != self._seen:
                self._headers = {"x-api-key": self._path.read_text().strip()}
                self._seen = (stat.st_ino, stat.st_mtime_ns)
        except FileNotFoundError:
            self._headers, self._seen = {}, None
        return self._headers
