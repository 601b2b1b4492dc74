"""Runs model-written code in a bubblewrap sandbox: one process without privileges, user files or network.

- **Isolation**: user, mount, pid, network, ipc and uts namespaces of its own; a read-only system with only the
  interpreter and its libraries; no /proc. As root we first switch to an ordinary user, a new one for each run.
- **Memory**: the seccomp filter (see `seccomp`) forbids new processes. So the limit of one process
  (RLIMIT_AS) and the size of its files bound all memory, except for some MB of the kernel. No cgroup is used.
- **Other limits**: the number of threads by RLIMIT_NPROC; time, output and the number of files from outside,
  by killing the whole pid namespace.
- **Python**: the interpreter that runs this process, without site-packages except for the requested ones (see
  `packages`). Hashes are not randomized, so a program prints the same each time.

All files are in one file system in memory, /sandbox: `work` holds the program and is its working folder,
`tmp` is /tmp, and `stdin` is /dev/stdin.
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
"Replaces the names of the streams, since there is no /proc, and the folder of `multiprocessing`'s locks."
_INSIDE = ("values", "fresh", "runner")  # each imports only those before it
_FILE_BYTES = 4096  # block size of a file system in memory; more files than blocks must be empty
_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/libx32")
_TRIAL_SECONDS = 60.0  # for packages of hundreds of files on a cold disk
_NOBODY = 65534
_FIRST_UID, _NUM_UIDS = 2_000_000_000, 100_000_000
_run_numbers = itertools.count()


@dataclass(frozen=True)
class Limits:
    """The resources that one sandbox may use; in total `memory_bytes` + `tmp_bytes` and some MB of memory."""

    memory_bytes: int = 2 << 30
    "address space of the process"
    tmp_bytes: int = 64 << 20
    "size of all files, without the input of a test; also limits their number, one for each 4 KB"
    max_threads: int = 32
    max_open_files: int = 64
    output_bytes: int = 16 << 20
    "limit of the printed output of each test, and of its answer"

    def for_process(
        self, cpu_seconds: int, file_bytes: int, *, count_threads: bool
    ) -> dict[str, int]:
        """The limits by their names in `resource`."""
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
        # 3 more processes: two of bubblewrap, and the runner
        return limits | ({"NPROC": self.max_threads + 3} if count_threads else {})


@dataclass(frozen=True)
class Sandbox:
    """Starts sandboxes on this machine; made by `find_sandbox`, safe to use from several threads."""

    limits: Limits
    is_isolated: bool
    "False only with the flag that allows running without a sandbox"
    packages: Packages = NO_PACKAGES
    "packages that programs may import, besides the standard library"

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

        `cpu_seconds` limits the CPU time of all requests together. With `for_scripts` each input has a process
        of its own, and it limits each of them; `input_bytes` is the size of the largest input. `errors` is the
        descriptor for standard error. Raises SandboxError if the sandbox cannot be started.
        """
        folder = None if self.is_isolated else _unsafe_folder(self.packages)
        file_bytes = self.limits.tmp_bytes + input_bytes
        try:
            command = (
                _isolated_command(file_bytes, self.packages)
                if self.is_isolated
                else _unsafe_command(self.packages)
            )
            with Session(
                list(command),
                seccomp.filter_program(may_fork=for_scripts) if self.is_isolated else None,
                max_output_bytes=self.limits.output_bytes,
                files=FileLimit(_FOLDER, file_bytes // _FILE_BYTES) if self.is_isolated else None,
                folder=None if folder is None else f"{folder}/work",
                errors=errors,
            ) as session:
                session.send_first(
                    _compiled_runner(),
                    self.limits.for_process(
                        cpu_seconds,
                        file_bytes,
                        count_threads=self.is_isolated and _counts_processes_by_namespace(),
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
    """The sandbox of this machine, tested by running a program in it.

    With `unsafe`, model-written code runs as the current user, with limits on its own process only.
    `code_packages` are distributions that programs may import, with their dependencies. Raises
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
    commands = (command for name, command in INSTALL.items() if name in names)
    return next(commands, "install the package bubblewrap")


@functools.cache
def _try_out(sandbox: Sandbox) -> None:
    """Run a program in the sandbox, once per process; only success is cached."""
    if sys.platform != "linux" or not seccomp.supported():
        raise _no_sandbox_error("it needs Linux on x86-64 or aarch64", "run it on such a machine")
    for program, package in (("bwrap", "bubblewrap"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise _no_sandbox_error(f"{package} is not installed", install_command())
    with tempfile.TemporaryFile() as errors:
        try:
            with sandbox.start(10, errors.fileno(), for_scripts=True) as session:
                imports = "".join(f"import {name}\n" for name in sandbox.packages.modules)
                session.ask(("compile", [f"{imports}print(6 * 7)"]), 10)
                answer = session.ask(("input", b""), _TRIAL_SECONDS)
        except SandboxError as error:
            errors.seek(0)
            message = errors.read(2000).decode(errors="replace").strip() or str(error)
            raise _no_sandbox_error(message.splitlines()[-1], _remedy(message)) from error
    if answer.output != b"42\n" and sandbox.packages.modules:
        names = ", ".join(name for name, _ in sandbox.packages.versions)
        raise UsageError(
            f"--code-packages: a program in the sandbox cannot import {names}: {answer.reply or answer.status}"
        )
    if answer.output != b"42\n":
        raise _no_sandbox_error(f"a program in it failed: {answer}", "report this")


def _remedy(message: str) -> str:
    """What to do about an error message of bubblewrap."""
    if "Unknown option" in message:
        return "bubblewrap 0.8 or newer is needed: " + install_command()
    if any(part in message for part in ("namespace", "uid map", "not permitted")):
        return (
            "allow user namespaces: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
            " (Ubuntu), `sysctl -w kernel.unprivileged_userns_clone=1` (older Debian), or"
            " `--security-opt seccomp=unconfined --security-opt apparmor=unconfined` (Docker)"
        )
    return install_command()


def _no_sandbox_error(reason: str, remedy: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"model-written code runs only in a sandbox, which does not work here: {reason}; {remedy};"
        f" or {UNSAFE_FLAG}, which runs it with all your rights"
    )


def _isolated_command(file_bytes: int, packages: Packages = NO_PACKAGES) -> Iterator[str]:
    """The command that starts the sandbox, without the numbers of the pipes."""
    package_binds = list(packages.binds(_PACKAGES))
    if os.geteuid() == 0:
        sources = [_prefix(), *(Path(source) for source, _ in packages.paths)]
        if not all(map(_is_readable_by_all, sources)):
            # Only root can read the interpreter or a package: an outer bubblewrap, run by root, shows them
            # to the ordinary user. Its pid namespace lets the inner one, without privileges, be killed.
            yield from (_path("bwrap"), "--die-with-parent", "--unshare-pid", *_system())
            yield from package_binds
            yield from ("--perms", "0755", "--dir", "/tmp", "--dev-bind", "/dev", "/dev")
            yield from ("--bind", "/proc", "/proc", "--")
            package_binds = ["--ro-bind", _PACKAGES, _PACKAGES] if package_binds else []
        uid = str(_own_uid(next(_run_numbers)))
        yield from (_path("setpriv"), "--reuid", uid, "--regid", uid, "--clear-groups", "--")
    yield from (_path("bwrap"), "--die-with-parent", "--new-session", "--unshare-user")
    yield from ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts")
    yield from ("--unshare-cgroup-try", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox")
    yield from _system()
    yield from package_binds
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


def _unsafe_command(packages: Packages) -> Iterator[str]:
    """The command without a sandbox: an empty environment is all; limits are set by the runner."""
    environment = _ENVIRONMENT | packages.environment()
    yield from (_path("env"), "-i", *(f"{name}={value}" for name, value in environment.items()))
    yield from _interpreter()


def _path(program: str) -> str:
    """The full path of a program, which is started without our PATH."""
    return shutil.which(program) or program


@functools.cache
def _interpreter() -> tuple[str, ...]:
    executable = getattr(sys, "_base_executable", None) or sys.executable
    return (str(Path(executable).resolve()), *_PYTHON_FLAGS, "-c", BOOTSTRAP)


@functools.cache
def _compiled_runner() -> bytes:
    """The runner and its modules as bytecode; the interpreter inside is the one that runs this process."""
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
    """Arguments that mount the system's libraries and the interpreter read-only, and nothing else."""
    arguments: list[str] = []
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    arguments += ["--perms", "0755", "--dir", "/etc"]  # else only bubblewrap can read it
    arguments += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    prefix = _prefix()
    if not prefix.is_relative_to("/usr"):
        for parent in reversed(prefix.parents[:-1]):
            arguments += ["--perms", "0755", "--dir", str(parent)]
        arguments += ["--ro-bind", str(prefix), str(prefix)]
    return tuple(arguments)


@functools.cache
def _is_readable_by_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _own_uid(number: int) -> int:
    """A user id for one run; that of nobody if few ids are mapped (rootless containers)."""
    if not _has_many_uids():
        return _NOBODY
    return _FIRST_UID + (os.getpid() * 1000 + number) % _NUM_UIDS


@functools.cache
def _has_many_uids() -> bool:
    lines = Path("/proc/self/uid_map").read_text(encoding="utf-8").splitlines()
    spans = [[int(word) for word in line.split()] for line in lines]
    return any(first <= _FIRST_UID and first + count > _FIRST_UID + _NUM_UIDS
               for first, _, count in spans)  # fmt: skip


@functools.cache
def _counts_processes_by_namespace() -> bool:
    """Whether the kernel counts a user's processes separately in each user namespace: since 5.14."""
    version = [int(part) for part in platform.release().split("-")[0].split(".")[:2]]
    return version >= [5, 14] or os.geteuid() == 0
