"""The sandbox's own process: it gives up every right that a program does not need, then runs the program.

Run as a script, by :mod:`remit_lit.sandbox.programs`. The limits are the kernel's, so nothing that the program does
to its interpreter lifts them:

- Landlock: it writes only below its own directory, where it makes files and symbolic links but no directories, and
  reads only that and what the interpreter is made of. (https://docs.kernel.org/userspace-api/landlock.html)
- seccomp: system calls that are not in the list below fail, above all those that make a process or a socket, signal
  another process, change modes and owners, or mount. (https://docs.kernel.org/userspace-api/seccomp_filter.html)
- setrlimit: CPU seconds, memory, size of a file, open files.

As there is no second process, killing this one ends all of it. Whoever may run a process may set these limits on it;
neither root nor a namespace is needed.
"""

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
import types
from collections.abc import Callable, Iterable, Sequence

HELD, PASSED = b"h", b"p"  # reports to the parent: the limits hold; the program ran to its end
PROGRAM = "program.py"
_FILE_BYTES = 16 * 2**20
_OPEN_FILES = 256

# Name and number on x86-64 and on ARM64, where old calls have none.
_ALLOWED_CALLS = """
access 21 -, alarm 37 -, brk 12 214, chdir 80 49, clock_getres 229 114, clock_gettime 228 113, clock_nanosleep 230 115,
close 3 57, close_range 436 436, copy_file_range 326 285, dup 32 23, dup2 33 -, dup3 292 24, epoll_create1 291 20,
epoll_ctl 233 21, epoll_pwait 281 22, epoll_wait 232 -, eventfd2 290 19, exit 60 93, exit_group 231 94,
faccessat 269 48, faccessat2 439 439, fadvise64 221 223, fchdir 81 50, fdatasync 75 83, flock 73 32, fstat 5 80,
fstatfs 138 44, fsync 74 82, ftruncate 77 46, futex 202 98, get_robust_list 274 100, getcpu 309 168, getcwd 79 17,
getdents64 217 61, getegid 108 177, geteuid 107 175, getgid 104 176, getgroups 115 158, getitimer 36 102,
getpgid 121 155, getpgrp 111 -, getpid 39 172, getppid 110 173, getpriority 140 141, getrandom 318 278,
getresgid 120 150, getresuid 118 148, getrlimit 97 163, getrusage 98 165, getsid 124 156, getsockopt 55 209,
gettid 186 178, gettimeofday 96 169, getuid 102 174, link 86 -, linkat 265 37, lseek 8 62, lstat 6 -, madvise 28 233,
mincore 27 232, mmap 9 222, mprotect 10 226, mremap 25 216, msync 26 227, munmap 11 215, nanosleep 35 101,
newfstatat 262 79, pause 34 -, pipe 22 -, pipe2 293 59, poll 7 -, ppoll 271 73, pread64 17 67, preadv 295 69,
pselect6 270 72, pwrite64 18 68, pwritev 296 70, read 0 63, readlink 89 -, readlinkat 267 78, readv 19 65,
recvfrom 45 207, rename 82 -, renameat 264 38, renameat2 316 276, restart_syscall 219 128, rseq 334 293,
rt_sigaction 13 134, rt_sigpending 127 136, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigsuspend 130 133,
rt_sigtimedwait 128 137, sched_getaffinity 204 123, sched_yield 24 124, select 23 -, sendfile 40 71, sendto 44 206,
set_robust_list 273 99, set_tid_address 218 96, setitimer 38 103, shutdown 48 210, sigaltstack 131 132, stat 4 -,
statfs 137 43, statx 332 291, symlink 88 -, symlinkat 266 36, sysinfo 99 179, time 201 -, times 100 153, umask 95 166,
uname 63 160, unlink 87 -, unlinkat 263 35, wait4 61 260, waitid 247 95, write 1 64, writev 20 66
"""
# linux/audit.h: AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# linux/sched.h
_CLONE_THREAD = 0x10000
# linux/net.h: the bits of a socket's type that are not flags
_SOCK_TYPE_MASK = 0xF
# sys/socket.h
_AF_UNIX, _SOCK_STREAM = 1, 1
# asm-generic/ioctls.h
_FIONBIO = 0x5421
# fcntl.h: F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW; and F_DUPFD_CLOEXEC
_HARMLESS_FCNTL = (*range(8), 1030)
_O_ACCMODE = 0b11

# asm-generic/unistd.h: numbers that x86-64 and ARM64 share
_NR_CLONE3 = 435
_NR_LANDLOCK_CREATE_RULESET, _NR_LANDLOCK_ADD_RULE, _NR_LANDLOCK_RESTRICT_SELF = 444, 445, 446

# linux/landlock.h
_LANDLOCK_CREATE_RULESET_VERSION = 1 << 0
_LANDLOCK_RULE_PATH_BENEATH = 1
_ACCESS_WRITE_FILE, _ACCESS_READ_FILE, _ACCESS_READ_DIR = 1 << 1, 1 << 2, 1 << 3
_ACCESS_REMOVE_FILE, _ACCESS_MAKE_REG, _ACCESS_MAKE_SYM, _ACCESS_TRUNCATE = 1 << 5, 1 << 8, 1 << 12, 1 << 14
_RULESET_ATTRIBUTES = "Q"  # struct landlock_ruleset_attr, as of ABI 1
_PATH_BENEATH_ATTRIBUTES = "=Qi"  # struct landlock_path_beneath_attr, packed
_READ = _ACCESS_READ_FILE | _ACCESS_READ_DIR
_WRITE = _ACCESS_WRITE_FILE | _ACCESS_REMOVE_FILE | _ACCESS_MAKE_REG | _ACCESS_MAKE_SYM | _ACCESS_TRUNCATE
# Rights that a rule on a single file may name.
_OF_FILES = _ACCESS_WRITE_FILE | _ACCESS_READ_FILE | _ACCESS_TRUNCATE
# All rights to files that each version of Landlock knows.
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}

# linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38

# linux/seccomp.h
_SECCOMP_MODE_FILTER = 2
_SECCOMP_RET_KILL_PROCESS, _SECCOMP_RET_ERRNO, _SECCOMP_RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
# Bytes from the start of struct seccomp_data: the call's number, its architecture, its six 64-bit arguments.
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_WORD_BYTES = 4
_WHOLE_WORD = 0xFFFFFFFF

# linux/filter.h and linux/bpf_common.h
_SOCK_FILTER = "HBBI"  # struct sock_filter: code, jump if true, jump if false, constant
_SOCK_FPROG = "HxxxxxxQ"  # struct sock_fprog: number of instructions, their address
_BPF_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_BPF_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_BPF_JUMP_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_BPF_RETURN = 0x06  # BPF_RET | BPF_K

_libc = ctypes.CDLL(None, use_errno=True)

# Allowed where (argument & mask) is one of the values; the argument as the index of a 32-bit word, two to each.
Rule = tuple[int, int, Sequence[int]]


def _call(what: str, function: Callable[..., int], *arguments: object) -> int:
    result = function(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _limit(cpu_seconds: int, memory_bytes: int) -> None:
    for name, soft, hard in (
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),  # SIGXCPU, which a program can ignore; then SIGKILL
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_FSIZE, _FILE_BYTES, _FILE_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        highest = resource.getrlimit(name)[1]
        if highest != resource.RLIM_INFINITY:
            soft, hard = min(soft, highest), min(hard, highest)
        resource.setrlimit(name, (soft, hard))


def _confine_files(directory: str) -> None:
    version = (_NR_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    abi = _call("Landlock (Linux 5.13 or later)", _libc.syscall, *version)
    handled = _RIGHTS_BY_ABI[min(abi, max(_RIGHTS_BY_ABI))]
    attributes = struct.pack(_RULESET_ATTRIBUTES, handled)
    ruleset = _call("Landlock ruleset", _libc.syscall, _NR_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    readable = (
        *sys.path,  # without site-packages: the standard library
        f"{sys.base_prefix}/lib",
        *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo"),
        *("/etc/ld.so.cache", "/etc/localtime", "/dev/urandom"),
    )
    rights = {**dict.fromkeys(readable, _READ), os.devnull: _OF_FILES, directory: _READ | _WRITE}
    for path, right in rights.items():
        if os.path.exists(path):  # noqa: PTH110  (pathlib would double the time to start)
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            kept = handled & (right if os.path.isdir(path) else right & _OF_FILES)  # noqa: PTH112
            rule = struct.pack(_PATH_BENEATH_ATTRIBUTES, kept, handle)
            arguments = (ruleset, _LANDLOCK_RULE_PATH_BENEATH, rule, 0)
            _call(f"Landlock rule for {path}", _libc.syscall, _NR_LANDLOCK_ADD_RULE, *arguments)
            os.close(handle)
    _call("Landlock", _libc.syscall, _NR_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _conditions() -> dict[str, list[Rule]]:
    """Calls that are allowed with some arguments only."""
    # Landlock before Linux 6.2 does not see a file that is opened for reading and emptied by that.
    writes = [os.O_TRUNC | os.O_WRONLY, os.O_TRUNC | os.O_RDWR]
    emptied = (os.O_TRUNC | _O_ACCMODE, [*range(_O_ACCMODE + 1), *writes])
    own = (0, _WHOLE_WORD, [os.getpid()])
    return {
        "clone 56 220": [(0, _CLONE_THREAD, [_CLONE_THREAD])],
        # F_SETOWN and F_SETSIG would send signals to others.
        "fcntl 72 25": [(2, _WHOLE_WORD, _HARMLESS_FCNTL)],
        "ioctl 16 29": [(2, _WHOLE_WORD, [_FIONBIO])],  # asyncio's, of its socket pair
        "kill 62 129": [own],
        "open 2 -": [(2, *emptied)],
        "openat 257 56": [(4, *emptied)],
        "prlimit64 302 261": [
            (0, _WHOLE_WORD, [0]),
            (4, _WHOLE_WORD, [0]),
            (5, _WHOLE_WORD, [0]),
        ],  # reads its own limits
        # Also asyncio's; a pair of datagram sockets could send to an address.
        "socketpair 53 199": [(0, _WHOLE_WORD, [_AF_UNIX]), (2, _SOCK_TYPE_MASK, [_SOCK_STREAM])],
        "tgkill 234 131": [own],
    }


def _confine_calls() -> None:
    machine = os.uname().machine
    if machine not in _ARCHITECTURES or sys.maxsize < 2**32:
        raise OSError(
            errno.ENOTSUP, f"the list of system calls is for 64-bit {' and '.join(_ARCHITECTURES)}, not {machine}"
        )
    column = list(_ARCHITECTURES).index(machine) + 1

    def numbers(entries: Iterable[str]) -> list[str]:
        return [entry.split()[column] for entry in entries]

    allow, refuse = _return(_SECCOMP_RET_ALLOW), _return(_SECCOMP_RET_ERRNO | errno.EACCES)
    program = [
        *(_load(_ARCHITECTURE_OFFSET), _jump_if_equal(_ARCHITECTURES[machine], 1, 0)),
        *(_return(_SECCOMP_RET_KILL_PROCESS), _load(_NUMBER_OFFSET)),
    ]
    for number in numbers(_ALLOWED_CALLS.split(",")):
        if number != "-":
            program += [_jump_if_equal(int(number), 0, 1), allow]
    # Its flags lie in memory, which a filter cannot read; libc falls back to clone.
    program += [_jump_if_equal(_NR_CLONE3, 0, 1), _return(_SECCOMP_RET_ERRNO | errno.ENOSYS)]
    conditions = _conditions()
    for number, rules in zip(numbers(conditions), conditions.values(), strict=True):
        if number != "-":
            checks = [step for rule in rules for step in _check(rule, refuse)]
            program += [_jump_if_equal(int(number), 0, len(checks) + 1), *checks, allow]
    program.append(refuse)
    code = ctypes.create_string_buffer(b"".join(program))
    pointer = ctypes.create_string_buffer(struct.pack(_SOCK_FPROG, len(program), ctypes.addressof(code)))
    _call("seccomp", _libc.prctl, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, pointer, 0, 0)


def _check(rule: Rule, refuse: bytes) -> list[bytes]:
    word, mask, values = rule
    tests = [_jump_if_equal(value, len(values) - index, 0) for index, value in enumerate(values)]
    return [_load(_ARGUMENTS_OFFSET + _WORD_BYTES * word), _instruction(_BPF_AND, mask), *tests, refuse]


def _load(offset: int) -> bytes:
    return _instruction(_BPF_LOAD_WORD, offset)


def _jump_if_equal(value: int, if_true: int, if_false: int) -> bytes:
    """Skip ``if_true`` or ``if_false`` instructions, by whether the loaded word is ``value``."""
    return _instruction(_BPF_JUMP_IF_EQUAL, value, if_true, if_false)


def _return(action: int) -> bytes:
    return _instruction(_BPF_RETURN, action)


def _instruction(code: int, constant: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack(_SOCK_FILTER, code, if_true, if_false, constant)


def _confine(parent: int, cpu_seconds: int, memory_bytes: int) -> None:
    _call("prctl", _libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the process that started this program has ended")
    _limit(cpu_seconds, memory_bytes)
    _call("no_new_privs", _libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _confine_files(os.getcwd())  # noqa: PTH109
    _confine_calls()


def _run(report: int | None) -> None:
    # A program may replace what `os` and `sys` name.
    write, leave, show, flushes = os.write, os._exit, sys.__excepthook__, (sys.stdout.flush, sys.stderr.flush)
    os.environ.clear()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = [PROGRAM]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        with open(PROGRAM, encoding="utf-8") as stream:
            source = stream.read()
        exec(compile(source, PROGRAM, "exec"), main.__dict__)
        _flush(flushes)
        if report is not None:
            write(report, PASSED)
        leave(0)
    except BaseException as error:
        _flush(flushes)
        shown = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)  # without this frame
        show(type(shown), shown, shown.__traceback__)
        _flush(flushes)
    finally:
        leave(1)


def _flush(flushes: Iterable[Callable[[], None]]) -> None:
    for flush in flushes:
        try:  # noqa: SIM105  (contextlib is not loaded yet)
            flush()
        except (OSError, ValueError):  # the program closed it
            pass


if __name__ == "__main__":
    _parent, _report, _tells_end, _cpu_seconds, _memory_bytes = map(int, sys.argv[1:])
    _confine(_parent, _cpu_seconds, _memory_bytes)
    os.write(_report, HELD)
    if not _tells_end:
        os.close(_report)
    _run(_report if _tells_end else None)
