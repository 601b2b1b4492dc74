"""Where model-written code runs: one process without rights, files, network or company.

bubblewrap gives it user, mount, pid, network, ipc and uts namespaces of its own, a read-only system of
which only the interpreter and its libraries are there, no /proc, and a /tmp in memory of bounded size. As
root we become an ordinary user first, another one for each run. The filter of `seccomp` forbids it to
start processes, so that the memory limit of one process (RLIMIT_AS) and the size of its files are together
the limit of all, but for some MB of the kernel's: no cgroup is needed, and none is used. Threads are bounded
too. Time, output and the number of files are limited from outside, by killing the whole pid namespace. The
interpreter is the one that runs us, without site-packages but for those that are asked for, see `packages`;
hashes are not random there, so the same program prints the same each time.

Its files lie in one file system in memory, /sandbox: `work`, where a program is and runs, `tmp`, which is
/tmp, and `stdin`, which is /dev/stdin.
"""

import functools
import itertools
import marshal
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from distillpipe.base.errors import MissingDependencyError, UsageError
from distillpipe.verify.code import seccomp
from distillpipe.verify.code.packages import NO_PACKAGES, Packages, find_packages
from distillpipe.verify.code.session import BOOTSTRAP, FileLimit, SandboxError, Session

UNSAFE_FLAG = "--unsafe-run-model-code-without-sandbox"
INSTALL = {
    "debian": "apt-get install bubblewrap",
    "fedora": "dnf install bubblewrap",
    "arch": "pacman -S bubblewrap",
    "alpine": "apk add bubblewrap",
    "suse": "zypper install bubblewrap",
}
_PYTHON_FLAGS = ("-s", "-S", "-P", "-X", "utf8")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}
_FOLDER, _PACKAGES = "/sandbox", "/packages"
_LINKS = {
    "/tmp": f"{_FOLDER}/tmp",
    "/dev/shm": f"{_FOLDER}/tmp",
    "/dev/stdin": f"{_FOLDER}/stdin",
    "/dev/fd/0": f"{_FOLDER}/stdin",
    "/dev/stdout": f"{_FOLDER}/stdout",
    "/dev/stderr": "/dev/null",
}
"What stands for the names of the streams, as there is no /proc, and where locks of `multiprocessing` lie."
_INSIDE = ("values", "fresh", "runner")  # each needs those before it
_FILE_BYTES = 4096  # of a file system in memory: more files than such blocks have no content
_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/libx32")
_TRIAL_SECONDS = 60.0  # some packages are hundreds of files, on a disk that may be cold
_NOBODY = 65534
_FIRST_UID, _NUM_UIDS = 2_000_000_000, 100_000_000
_run_numbers = itertools.count()


@dataclass(frozen=True)
class Limits:
    """What one sandbox may use. The most memory of all is `memory_bytes` + `tmp_bytes` and some MB."""

    memory_bytes: int = 2 << 30
    "address space of the one process"
    tmp_bytes: int = 64 << 20
    "of all files, beside the input of a test; and a file for each 4 KB of them"
    max_threads: int = 32
    max_open_files: int = 64
    output_bytes: int = 16 << 20
    "for each test: printed, and answered"

    def for_process(
        self, cpu_seconds: int, file_bytes: int, *, count_threads: bool
    ) -> dict[str, int]:
        """By their names in `resource`. Three processes more than threads: bubblewrap's own, and the runner."""
        limits = {
            "AS": self.memory_bytes,
            "CPU": cpu_seconds,
            "FSIZE": file_bytes,
            "NOFILE": self.max_open_files,
            "STACK": 64 << 20,
            "SIGPENDING": 256,
            "CORE": 0,
            "MSGQUEUE": 0,
            "MEMLOCK": 0,
        }
        return limits | ({"NPROC": self.max_threads + 3} if count_threads else {})


@dataclass(frozen=True)
class Sandbox:
    """How to start sandboxes here; made by `find_sandbox`, safe to use from several threads."""

    limits: Limits
    is_isolated: bool
    "False only where the user asked for the unsafe way"
    packages: Packages = NO_PACKAGES
    "that programs may import, beside the standard library"

    @contextmanager
    def start(
        self,
        cpu_seconds: int,
        errors: int = subprocess.DEVNULL,
        *,
        for_scripts: bool = False,
        input_bytes: int = 0,
    ) -> Iterator[Session]:
        """A running sandbox, ready for requests, killed at the end of the block.

        `cpu_seconds` limits the processor time of all requests together, or of each where it is
        `for_scripts`: then each input has a process of its own. The longest has `input_bytes`. Raises
        SandboxError where it cannot be started.
        """
        folder = None if self.is_isolated else _unsafe_folder(self.packages)
        file_bytes = self.limits.tmp_bytes + input_bytes
        try:
            with Session(
                [
                    *(
                        _isolated(file_bytes, self.packages)
                        if self.is_isolated
                        else _bare(self.packages)
                    )
                ],
                seccomp.filter_program(may_fork=for_scripts) if self.is_isolated else None,
                max_output_bytes=self.limits.output_bytes,
                files=FileLimit(_FOLDER, file_bytes // _FILE_BYTES) if self.is_isolated else None,
                folder=None if folder is None else f"{folder}/work",
                errors=errors,
            ) as session:
                session.send_first(
                    _program_inside(),
                    self.limits.for_process(
                        cpu_seconds,
                        file_bytes,
                        count_threads=self.is_isolated and _counts_by_namespace(),
                    ),
                    seccomp.no_processes() if self.is_isolated and for_scripts else None,
                    _PACKAGES if folder is None else f"{folder}{_PACKAGES}",
                )
                yield session
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def find_sandbox(
    limits: Limits | None = None, *, unsafe: bool = False, code_packages: tuple[str, ...] = ()
) -> Sandbox:
    """The sandbox of this machine, tried out by running a program in it.

    With `unsafe` model-written code runs as the user who calls, with limits on its own process only.
    `code_packages` are distributions that programs may import, with what they need. Raises
    MissingDependencyError, with the reason and the command that installs what is missing, and UsageError
    for a package that is not installed.
    """
    packages = find_packages(code_packages)
    sandbox = Sandbox(limits=limits or Limits(), is_isolated=not unsafe, packages=packages)
    if not unsafe:
        _try_out(replace(sandbox, limits=Limits()))
    return sandbox


def _unsafe_folder(packages: Packages) -> str:
    folder = tempfile.mkdtemp(prefix="distill-unsafe-")
    for name in ("work", "tmp"):
        (Path(folder) / name).mkdir()
    packages.link(Path(folder + _PACKAGES))
    return folder


def install_command() -> str:
    """The command that installs bubblewrap on this distribution."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    names = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}"
    known = [command for name, command in INSTALL.items() if name in names]
    return known[0] if known else "install the package bubblewrap"


@functools.cache
def _try_out(sandbox: Sandbox) -> None:
    """Run something, once a process; the answer is kept only where it is good."""
    if sys.platform != "linux" or not seccomp.supported():
        raise _refusal("it needs Linux on x86-64 or aarch64", "run it on such a machine")
    for program, package in (("bwrap", "bubblewrap"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise _refusal(f"{package} is not installed", install_command())
    with tempfile.TemporaryFile() as errors:
        try:
            with sandbox.start(10, errors.fileno(), for_scripts=True) as session:
                imports = "".join(f"import {name}\n" for name in sandbox.packages.modules)
                session.ask(("compile", [f"{imports}print(6 * 7)"]), 10)
                answer = session.ask(("input", b""), _TRIAL_SECONDS)
        except SandboxError as error:
            errors.seek(0)
            said = errors.read(2000).decode(errors="replace").strip() or str(error)
            raise _refusal(said.splitlines()[-1], _mend(said)) from error
    if answer.output != b"42\n" and sandbox.packages.modules:
        names = ", ".join(name for name, _ in sandbox.packages.versions)
        raise UsageError(
            f"--code-packages: a program in the sandbox cannot import {names}: {answer.reply or answer.status}"
        )
    if answer.output != b"42\n":
        raise _refusal(f"a program in it failed: {answer}", "report this")


def _mend(said: str) -> str:
    """What to do about what bubblewrap said."""
    if "Unknown option" in said:
        return "bubblewrap 0.8 or newer is needed: " + install_command()
    if "namespace" in said or "uid map" in said or "not permitted" in said:
        return (
            "allow user namespaces: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
            " (Ubuntu), `sysctl -w kernel.unprivileged_userns_clone=1` (older Debian), or"
            " `--security-opt seccomp=unconfined --security-opt apparmor=unconfined` (Docker)"
        )
    return install_command()


def _refusal(reason: str, mend: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"model-written code runs only in a sandbox, and there is none here: {reason}; {mend};"
        f" or {UNSAFE_FLAG}, which lets it do whatever you may do"
    )


def _isolated(file_bytes: int, packages: Packages = NO_PACKAGES) -> Iterator[str]:
    """The command that starts the sandbox, but for the numbers of the pipes."""
    packages_here = list(packages.binds(_PACKAGES))
    if os.geteuid() == 0:
        hidden = [_prefix(), *(Path(source) for source, _ in packages.paths)]
        if not all(map(_is_open_to_all, hidden)):
            # only root can reach the interpreter: show it to the user that we become; in a pid
            # namespace, because the kernel lets this bubblewrap, without rights, kill no other user's
            yield from (_path("bwrap"), "--die-with-parent", "--unshare-pid", *_system())
            yield from packages_here
            yield from ("--perms", "0755", "--dir", "/tmp", "--dev-bind", "/dev", "/dev")
            yield from ("--bind", "/proc", "/proc", "--")
            packages_here = ["--ro-bind", _PACKAGES, _PACKAGES] if packages_here else []
        uid = str(_own_uid(next(_run_numbers)))
        yield from (_path("setpriv"), "--reuid", uid, "--regid", uid, "--clear-groups", "--")
    yield from (_path("bwrap"), "--die-with-parent", "--new-session", "--unshare-user")
    yield from ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts")
    yield from ("--unshare-cgroup-try", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox")
    yield from _system()
    yield from packages_here
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        yield from ("--dev-bind", device, device)
    for link, target in _LINKS.items():
        yield from ("--symlink", target, link)
    yield from ("--size", str(file_bytes), "--tmpfs", _FOLDER, "--remount-ro", "/")
    yield from ("--dir", f"{_FOLDER}/work", "--dir", f"{_FOLDER}/tmp")
    yield from ("--chdir", f"{_FOLDER}/work", "--clearenv", "--seccomp", "{seccomp}")
    for name, value in (_ENVIRONMENT | packages.environment()).items():
        yield from ("--setenv", name, value)
    yield from ("--", *_interpreter())


def _bare(packages: Packages) -> Iterator[str]:
    """The command without a sandbox: a session and limits of its own, and that is all."""
    environment = _ENVIRONMENT | packages.environment()
    yield from (_path("env"), "-i", *(f"{name}={value}" for name, value in environment.items()))
    yield from _interpreter()


def _path(program: str) -> str:
    """Where a program is: it is started without our PATH."""
    return shutil.which(program) or program


@functools.cache
def _interpreter() -> tuple[str, ...]:
    executable = getattr(sys, "_base_executable", None) or sys.executable
    return (str(Path(executable).resolve()), *_PYTHON_FLAGS, "-c", BOOTSTRAP)


@functools.cache
def _program_inside() -> bytes:
    """The runner and its modules, compiled: the interpreter inside is the one that runs us."""
    modules = []
    for name in _INSIDE:
        source = (Path(__file__).parent / "inside" / f"{name}.py").read_text(encoding="utf-8")
        code = compile(source, f"{name}.py", "exec", dont_inherit=True)
        modules.append((f"distillpipe.verify.code.inside.{name}", code))
    return marshal.dumps(modules)


@functools.cache
def _prefix() -> Path:
    return Path(sys.base_prefix).resolve()


@functools.cache
def _system() -> tuple[str, ...]:
    """Arguments that show the system's libraries and the interpreter, read-only, and nothing else."""
    arguments: list[str] = []
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    arguments += ["--perms", "0755", "--dir", "/etc"]  # else bubblewrap makes it for itself alone
    arguments += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    prefix = _prefix()
    if not prefix.is_relative_to("/usr"):
        for parent in reversed(prefix.parents[:-1]):
            arguments += ["--perms", "0755", "--dir", str(parent)]
        arguments += ["--ro-bind", str(prefix), str(prefix)]
    return tuple(arguments)


@functools.cache
def _is_open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _own_uid(number: int) -> int:
    """A user for one run, nobody where few are mapped (rootless containers)."""
    if not _has_many_uids():
        return _NOBODY
    return _FIRST_UID + (os.getpid() * 1000 + number) % _NUM_UIDS


@functools.cache
def _has_many_uids() -> bool:
    spans = [[int(word) for word in line.split()] for line in _lines("/proc/self/uid_map")]
    return any(first <= _FIRST_UID and first + count > _FIRST_UID + _NUM_UIDS
               for first, _, count in spans)  # fmt: skip


@functools.cache
def _counts_by_namespace() -> bool:
    """Whether the kernel counts a user's processes in each user namespace apart: since 5.14."""
    version = [int(part) for part in platform.release().split("-")[0].split(".")[:2]]
    return version >= [5, 14] or os.geteuid() == 0


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()
