"""Programs that do their work, and programs that try to get out, each in a real process of its own."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import remit_lit.sandbox.programs as sandbox_module
from remit_lit.errors import ConfigError
from remit_lit.sandbox.programs import check_sandbox, run_code
from tests.processes import ROOT

pytestmark = pytest.mark.skipif(bool(check_sandbox()), reason=f"sandbox: {check_sandbox()}")


def programs_of(pid: int) -> list[psutil.Process]:
    """Processes that were started to run a program for the process ``pid``; a fork keeps its command line."""
    found = []
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
        except psutil.Error:
            continue
        if any(name.endswith("confinement.py") for name in arguments) and str(pid) in arguments:
            found.append(process)
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process and no file outlives a program."""
    place = tmp_path / "programs"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    descriptors = set(Path("/proc/self/fd").iterdir())
    yield
    assert programs_of(os.getpid()) == []
    assert list(place.iterdir()) == []
    assert set(Path("/proc/self/fd").iterdir()) == descriptors


@pytest.mark.parametrize(
    "program",
    [
        "",
        "def add(a, b):\n    return a + b\n\nassert add(2, 3) == 5",
        "import unittest\n\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(1, 1)\n\n"
        "assert unittest.main(exit=False).result.wasSuccessful()",
        "from dataclasses import dataclass\nimport pickle\n\n@dataclass\nclass Point:\n    x: int\n\n"
        "assert pickle.loads(pickle.dumps(Point(3))) == Point(3)",
        "import asyncio\n\nasync def three():\n    await asyncio.sleep(0.01)\n    return 3\n\n"
        "assert asyncio.run(three()) == 3",
        "import threading\nseen = []\nthreads = [threading.Thread(target=seen.append, args=(i,)) for i in range(20)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\nassert sorted(seen) == list(range(20))",
        "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f:\n"
        "    f.write('a'); f.seek(0); assert f.read() == 'a'",
        "open('a', 'w').write('xyz')\nimport os\nos.rename('a', 'b'); \nassert open('b').read() == 'xyz'\n"
        "open('b', 'w').close(); assert os.stat('b').st_size == 0\nos.remove('b')",
        "import sqlite3\nsqlite3.connect('x.db').execute('create table t (a)')",
        "import bisect, decimal, fractions, hashlib, heapq, itertools, json, math, random, re, statistics, zlib\n"
        "assert hashlib.sha256(b'').hexdigest()[:4] == 'e3b0' and decimal.Decimal(2).sqrt() > 1",
        "import signal, time\nsignal.signal(signal.SIGALRM, lambda *a: None)\nsignal.alarm(1)\ntime.sleep(0.01)",
        "print('ünï漢')",
        "import sys\nsys.stdout.close()",
        "import os, sys\nos._exit = os.write = sys.exit = None",
    ],
)
def test_a_program_that_runs_to_its_end_has_passed(program: str) -> None:
    outcome = run_code(program)
    assert outcome.status == "passed", outcome.output


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("assert 1 == 2, 'unequal'", "AssertionError: unequal"),
        ("def f(:", "SyntaxError"),
        ("x\0", "null bytes"),
        ("x = '\ud800'\n1/0", "ZeroDivisionError"),
        ("def f():\n    f()\nf()", "RecursionError"),
        ("import sys\nprint('early')\nsys.exit(0)\nassert False", "early"),
        ("import os\nos._exit(0)", ""),
        ("import ctypes\nctypes.string_at(0)", ""),
        ("import os\nos.kill(os.getpid(), 9)", ""),
        ("input()", "EOFError"),
        ("import numpy", "ModuleNotFoundError"),
        ("import remit_lit", "ModuleNotFoundError"),
    ],
)
def test_a_program_that_does_not_has_failed_and_says_why(program: str, printed: str) -> None:
    outcome = run_code(program)
    assert outcome.status == "failed"
    assert printed in outcome.output
    assert "confinement" not in outcome.output


def test_the_output_is_its_last_2000_characters() -> None:
    outcome = run_code("import sys\nprint('漢' * 5000 + 'end')\nprint('error', file=sys.stderr)")
    assert outcome.status == "passed"
    assert outcome.output == "漢" * (2000 - len("end\nerror\n")) + "end\nerror\n"


def test_what_a_program_printed_before_its_time_was_over_is_kept() -> None:
    assert run_code("print('begun')\nwhile True: pass", seconds=2).output == "begun\n"


def test_the_same_program_prints_the_same() -> None:
    first, second = (run_code("print(list({'a', 'b', 'c', 'd', 'e'}), hash('f'))") for _ in range(2))
    assert first.output and first == second


@pytest.mark.fault("a generated program that does not end", "it is ended with its time, and leaves no process")
@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "while True: print('x' * 1000)",
        "print('x', end='')\nwhile True: pass",
        pytest.param(
            "import signal\nfor n in set(signal.Signals) - {9, 19}: signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
            id="ignores signals",
        ),
        "import os\nos.close(1); os.close(2)\nwhile True: pass",
        "import os\nos.kill(os.getpid(), 19)",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import threading\nthreading.Thread(target=lambda: [1 for _ in iter(int, 1)]).start()\nwhile True: pass",
        pytest.param(
            "import os\nfor fd in range(3, 20):\n    try:\n"
            "        while True: os.write(fd, bytes(65536))\n    except OSError: pass",
            id="floods descriptors",
        ),
    ],
)
def test_a_program_ends_with_its_time(program: str) -> None:
    started = time.monotonic()
    outcome = run_code(program, seconds=0.5)
    assert outcome.status == "timeout"
    assert time.monotonic() - started < 10  # far more than an idle machine needs
    assert len(outcome.output) <= 2000


@pytest.mark.fault("a generated program that ignores the end of its time", "the kernel ends it")
def test_the_time_of_the_cpu_is_limited_too() -> None:
    """A second after the signal, which a program can ignore, the kernel kills it."""
    limits = "import resource\nassert resource.getrlimit(resource.RLIMIT_CPU) == (2, 3)"
    assert run_code(limits, seconds=1.2).status == "passed"
    assert run_code("import os, signal\nos.kill(os.getpid(), signal.SIGXCPU)").status == "timeout"


@pytest.mark.fault("a generated program that asks for all memory", "it fails by itself")
@pytest.mark.parametrize(
    "program",
    [
        "x = bytearray(10 * 2**30)",
        "import mmap\nmmap.mmap(-1, 10 * 2**30)[:] = b'1'",
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()",
    ],
)
def test_memory_is_limited(program: str) -> None:
    outcome = run_code(program)
    assert outcome.status == "failed"
    assert any(error in outcome.output for error in ("MemoryError", "Cannot allocate memory", "can't start new thread"))


def test_the_memory_is_the_one_that_is_asked_for() -> None:
    program = "x = bytearray(2**28)"
    assert run_code(program, memory_bytes=2**29).status == "passed"
    assert run_code(program, memory_bytes=2**28).status == "failed"


@pytest.mark.fault("a generated program that writes", "it can within its own directory, and nowhere else")
@pytest.mark.parametrize("name", ["mark", "../mark", "{outside}/mark", "{home}/remit_lit-mark"])
@pytest.mark.parametrize(
    "way",
    [
        "open({path!r}, 'w').write('x')",
        "open({path!r}, 'a').write('x')",
        "os.open({path!r}, os.O_CREAT | os.O_RDONLY)",
        "os.symlink({path!r}, 'link'); open('link', 'w').write('x')",
        "open('own', 'w').close(); os.rename('own', {path!r})",
        "open('own', 'w').close(); os.link('own', {path!r})",
        "os.symlink('own', {path!r})",
    ],
)
def test_files_are_written_in_its_own_directory_only(name: str, way: str, tmp_path: Path) -> None:
    path = name.format(outside=tmp_path, home=Path.home())
    outcome = run_code("import os\n" + way.format(path=path))
    if name == "mark":
        assert outcome.status == "passed", outcome.output
        return
    assert outcome.status == "failed"
    assert "PermissionError" in outcome.output or "cross-device link" in outcome.output
    assert not Path(path).exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["programs"]


@pytest.mark.fault("a generated program and a file of the parent", "it can neither read nor change it")
@pytest.mark.parametrize(
    "way",
    [
        "open(path, 'w')",
        "open(path, 'r+')",
        "os.open(path, os.O_RDONLY | os.O_TRUNC)",
        "os.open(path, 3 | os.O_TRUNC)",
        "os.truncate(path, 0)",
        "os.remove(path)",
        "os.rename(path, 'own')",
        "os.link(path, 'own')",
        "os.chmod(path, 0)",
        "os.utime(path, (0, 0))",
        "os.chown(path, 65534, 65534)",
        "os.setxattr(path, 'user.a', b'b')",
        "shutil.rmtree(os.path.dirname(path))",
        "open(path).read()",
        "os.listdir(os.path.dirname(path))",
        "open(os.open(os.path.dirname(path), os.O_PATH))",
    ],
)
def test_the_files_of_others_can_be_neither_changed_nor_read(way: str, tmp_path: Path) -> None:
    path = tmp_path / "kept" / "secret"
    path.parent.mkdir()
    path.write_text("of the parent")
    before = path.stat()
    outcome = run_code(f"import os, shutil\npath = {str(path)!r}\n{way}")
    assert outcome.status == "failed"
    assert "Error" in outcome.output
    after = path.stat()
    assert path.read_text() == "of the parent"
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.fault("a generated program that fills the disk", "its files end at 16 MiB")
def test_a_file_can_grow_to_16_mebibytes() -> None:
    program = "import os\nos.pwrite(os.open('a', os.O_CREAT | os.O_WRONLY), b'x', {})"
    assert run_code(program.format(16 * 2**20 - 1)).status == "passed"
    assert run_code(program.format(16 * 2**20)).status == "failed"
    assert run_code("open('a', 'w').truncate(2**40)").status == "failed"


@pytest.mark.fault("a generated program that opens a socket", "it is refused")
@pytest.mark.parametrize(
    "way",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "socket.create_connection(('127.0.0.1', {port}))",
        "urllib.request.urlopen('http://127.0.0.1:{port}')",
        "socket.socketpair()[0].connect('/dev/log')",
    ],
)
def test_no_socket_is_opened(way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        outcome = run_code("import socket, urllib.request\n" + way.format(port=server.getsockname()[1]))
        with pytest.raises(BlockingIOError):
            server.accept()
    assert outcome.status == "failed"
    assert "Permission denied" in outcome.output


@pytest.mark.fault("a generated program that starts a process", "it is refused")
@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True: os.fork()",
        "import os\nos.posix_spawn('/bin/sleep', ['sleep', '60'], {})",
        "import subprocess\nsubprocess.run(['sleep', '60'])",
        "import os\nos.execv('/bin/sleep', ['sleep', '60'])",
        "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: pass",
        "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()",
        pytest.param(
            "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
            "for call in ((56, 17, 0, 0, 0, 0), (58,), (272, 0x10000000)):\n"
            "    if libc.syscall(*call) < 0 and ctypes.get_errno() == 13: continue\n    os._exit(0)\n"
            "raise PermissionError",
            id="clone without CLONE_THREAD, vfork, unshare",
        ),
    ],
)
def test_no_process_is_started(program: str) -> None:
    if "syscall" in program and os.uname().machine != "x86_64":
        pytest.skip("numbers of x86-64")
    outcome = run_code(program)
    assert outcome.status == "failed"
    assert "PermissionError" in outcome.output


@pytest.mark.fault("a generated program that reaches for the system", "it is refused")
@pytest.mark.parametrize(
    "way",
    [
        "os.kill(os.getppid(), 9)",
        "os.kill(-1, 9)",
        "os.killpg(os.getpgid(os.getppid()), 9)",
        "signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)",
        "fcntl.fcntl(0, 10, 9)",  # F_SETSIG
        "fcntl.fcntl(0, 8, os.getppid())",  # F_SETOWN
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "os.sched_setaffinity(os.getppid(), [0])",
        "open(f'/proc/{os.getppid()}/environ').read()",
        "open(f'/proc/{os.getppid()}/mem', 'r+b')",
        "open('/proc/self/mem', 'r+b')",
        "os.memfd_create('x')",
        "os.chroot('.')",
        "os.mkdir('x')",
        "os.mkfifo('x')",
        "os.setuid(65534)",
    ],
)
def test_other_processes_and_the_system_are_out_of_reach(way: str) -> None:
    outcome = run_code(f"import fcntl, os, resource, signal\n{way}")
    assert outcome.status == "failed"
    assert "PermissionError" in outcome.output or "not allowed to raise" in outcome.output


@pytest.mark.fault("a generated program that looks for the parent's secrets", "none is passed on")
def test_nothing_of_the_parent_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with open(tmp_path / "open", "w") as stream:
        os.set_inheritable(stream.fileno(), True)
        outcome = run_code(
            "import ctypes, os, sys\nprint(dict(os.environ), sys.argv, ctypes.CDLL(None).getenv(b'HF_TOKEN'))\n"
            f"os.fstat({stream.fileno()})"
        )
    assert outcome.output.startswith("{} ['program.py'] 0\n")
    assert "Bad file descriptor" in outcome.output


def test_programs_at_once_do_not_disturb_each_other() -> None:
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(run_code, (f"print({i})\nassert {i} % 3" for i in range(24))))
    assert [outcome.status for outcome in outcomes] == ["passed" if i % 3 else "failed" for i in range(24)]
    assert all(outcome.output.startswith(f"{i}\n") for i, outcome in enumerate(outcomes))


@pytest.mark.fault("an interrupted parent of a generated program", "its program ends too")
def test_an_interrupted_parent_ends_its_program() -> None:
    # A shell's background jobs ignore it, and their children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.get_ident()
    timer = threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run_code("while True: pass", seconds=60)
    timer.join()
    signal.signal(signal.SIGINT, before)


@pytest.mark.fault("kill -9 of the parent of a generated program", "its program ends too")
def test_a_killed_parent_takes_its_program_along(tmp_path: Path) -> None:
    code = "from remit_lit.sandbox.programs import run_code\nrun_code('while True: pass', seconds=600)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    deadline = time.monotonic() + 60
    while not any(process.cpu_times().user > 0.3 for process in programs_of(parent.pid)):
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    while programs_of(parent.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_times_are_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="seconds: got"):
        run_code("", seconds=seconds)


@pytest.mark.parametrize("memory_bytes", [-1, 0, 2**26 - 1])
def test_too_little_memory_for_the_interpreter_is_refused(memory_bytes: int) -> None:
    with pytest.raises(ConfigError, match=f"memory_bytes: got {memory_bytes}; give at least 67108864"):
        run_code("", memory_bytes=memory_bytes)
    assert run_code("", memory_bytes=2**26).status == "passed"


@pytest.mark.fault("a kernel that cannot confine generated programs", "none is run")
def test_a_machine_that_cannot_hold_programs_refuses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without limits (a stand-in for an old kernel) nothing runs."""
    source = sandbox_module._CONFINEMENT.read_text()
    unheld = tmp_path / "confinement.py"
    for text in (
        source.replace("= 444, 445, 446", "= 9999, 445, 446"),  # no such system call: what an old kernel says
        source.replace("    _confine_files(os.getcwd())", "    #"),
        source.replace("    _confine_calls()", "    #"),
    ):
        assert text != source
        unheld.write_text(text)
        monkeypatch.setattr(sandbox_module, "_CONFINEMENT", unheld)
        check_sandbox.cache_clear()
        mark = tmp_path / "mark"
        with pytest.raises(ConfigError, match="sandbox: this machine cannot confine generated programs"):
            run_code(f"open({str(mark)!r}, 'w')")
        assert not mark.exists()
    unheld.unlink()
    check_sandbox.cache_clear()
