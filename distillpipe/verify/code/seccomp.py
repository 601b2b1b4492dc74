"""The seccomp filter for bubblewrap: the system calls that model-written code may not make.

The namespaces hide files, processes and networks. The filter refuses what they leave open:

- new processes, so that the memory limit of one process is the limit of all;
- socket families without namespaces (vsock), files and settings of other processes;
- kernel memory that no limit counts;
- calls with a history of kernel bugs.

A refused call fails with EPERM. `clone3` and all calls newer than `NEWEST` fail with ENOSYS, so that the C
library uses an older call, whose arguments the filter can read.

Kernel memory that stays allowed is bounded: descriptors (pipes and sockets with buffers of the default size,
epoll, timerfd, eventfd) by RLIMIT_NOFILE; queued signals and timers by RLIMIT_SIGPENDING; threads by
RLIMIT_NPROC; mappings by RLIMIT_AS; files by the size and number that the session checks.

A filter is a BPF program of 8-byte instructions, see the kernel's
`Documentation/userspace-api/seccomp_filter.rst`.
"""

import errno
import functools
import platform
import struct
from typing import NamedTuple

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF operations
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CLONE_THREAD, _AF_UNIX = 0x10000, 1
_X32 = 0x40000000  # x86-64 only: from here on the numbers of the x32 interface to the same calls
NEWEST = 462
"mseal, of Linux 6.10. Higher numbers are refused until they have been reviewed (setxattrat is one)."

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_Numbers = dict[str, tuple[int | None, int | None]]
# name: number on x86-64, number on aarch64
_NEW_PROCESSES: _Numbers = {"fork": (57, None), "vfork": (58, None)}
_NEW_FILTERS: _Numbers = {"seccomp": (317, 277)}  # each thread may hold compiled filters of its own
_NOTHING_TO_DO: _Numbers = {"fsync": (74, 82), "fdatasync": (75, 83)}
"Calls that succeed without doing anything: our files are in memory, the system's would be written to disk."
_DENIED: _Numbers = {
    # other processes, namespaces, mounts
    "unshare": (272, 97), "setns": (308, 268), "ptrace": (101, 117), "kcmp": (312, 272),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265), "ioprio_set": (251, 30),
    # memory that belongs to no process, or that nothing counts
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "userfaultfd": (323, 282),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "msgget": (68, 186), "msgsnd": (69, 189),
    "semget": (64, 190), "semop": (65, 193), "mq_open": (240, 180),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "io_setup": (206, 0), "io_submit": (209, 2),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "splice": (275, 76), "vmsplice": (278, 75), "tee": (276, 77),  # a pipe would keep freed pages
    "landlock_create_ruleset": (444, 444), "landlock_add_rule": (445, 445),
    "modify_ldt": (154, None), "mlock": (149, 228), "mlock2": (325, 284), "mlockall": (151, 230),
    # only connected pairs of sockets: a connection that waits to be accepted has buffers but no descriptor
    "socket": (41, 198), "listen": (50, 201), "bind": (49, 200), "setsockopt": (54, 208),
    # of the whole machine: locks on shared files, the log, the disks; calls with known bugs
    "flock": (73, 32), "syslog": (103, 116), "sync": (162, 81), "syncfs": (306, 267),
    "bpf": (321, 280), "perf_event_open": (298, 241), "personality": (135, 92),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89), "kexec_load": (246, 104),
    "init_module": (175, 105), "finit_module": (313, 273), "lookup_dcookie": (212, 18),
}  # fmt: skip


class _Check(NamedTuple):
    """A test of the low 32 bits of a call's argument, which are all that matter here."""

    argument: int
    test: int
    value: int
    allows: bool = True
    "whether the call is allowed if the test holds, or refused"


_F_SETLK, _F_SETLKW, _F_OFD_SETLK, _F_OFD_SETLKW = 6, 7, 37, 38
_F_SETLEASE, _F_NOTIFY, _F_SETPIPE_SZ = 1024, 1026, 1031
_PR_SET_SECCOMP = 22
_NO_FILTERS = {"prctl": ((157, 167), [_Check(0, _EQUAL, _PR_SET_SECCOMP, allows=False)])}
_CHECKED: dict[str, tuple[tuple[int, int], list[_Check]]] = {
    "socketpair": ((53, 199), [_Check(0, _EQUAL, _AF_UNIX)]),
    "fcntl": (
        (72, 25),
        [
            _Check(1, _EQUAL, command, allows=False)
            for command in (
                _F_SETLK, _F_SETLKW, _F_OFD_SETLK, _F_OFD_SETLKW,  # each locked range takes kernel memory
                _F_SETLEASE, _F_NOTIFY, _F_SETPIPE_SZ,
            )
        ],
    ),
    # only for the calling process itself: the runner has the same user
    "prlimit64": ((302, 261), [_Check(0, _EQUAL, 0)]),
    "setpriority": ((141, 140), [_Check(0, _EQUAL, 0), _Check(1, _EQUAL, 0)]),
    "sched_setaffinity": ((203, 122), [_Check(0, _EQUAL, 0)]),
    "sched_setparam": ((142, 118), [_Check(0, _EQUAL, 0)]),
    "sched_setscheduler": ((144, 119), [_Check(0, _EQUAL, 0)]),
    "sched_setattr": ((314, 274), [_Check(0, _EQUAL, 0)]),
}  # fmt: skip


def supported(machine: str | None = None) -> bool:
    """Whether there is a filter for a machine (default: this one): x86-64 and aarch64 have one."""
    return (machine or platform.machine()) in _MACHINES


@functools.cache
def filter_program(machine: str | None = None, *, may_fork: bool = False) -> bytes:
    """The filter for a machine (default: this one), in the format of `bwrap --seccomp`.

    With `may_fork` new processes and filters are allowed, for the runner, whose children add the filter
    `no_processes`. Raises ValueError for a machine that is not `supported`.
    """
    machine = machine or platform.machine()
    column = list(_MACHINES).index(machine)
    fail, unknown = _FAIL | errno.EPERM, _FAIL | errno.ENOSYS
    steps = _head(machine)
    if machine == "x86_64":
        steps += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, fail)]
    steps += [_step(_AT_LEAST, NEWEST + 1, 0, 1), _step(_RETURN, unknown)]
    for numbers in _DENIED.values():
        steps += _refused(numbers[column], fail)
    for numbers in _NOTHING_TO_DO.values():
        steps += _refused(numbers[column], _FAIL)  # error number 0: the call succeeds
    steps += _refused(_CLONE3, unknown)
    for numbers, checks in _CHECKED.values():
        steps += _only_if(numbers[column], checks, fail)
    if not may_fork:
        steps += _only_threads(machine)
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


@functools.cache
def no_processes(machine: str | None = None) -> bytes:
    """The additional filter of a child of the runner: allows threads, no new processes or filters."""
    machine = machine or platform.machine()
    return b"".join([*_head(machine), *_only_threads(machine), _step(_RETURN, _ALLOW)])


def _head(machine: str) -> list[bytes]:
    """Kill the process for a call of another architecture (32 bits); then load the number of the call."""
    return [
        _step(_LOAD, _MACHINE_AT),
        _step(_EQUAL, _MACHINES[machine], 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
    ]


def _only_threads(machine: str) -> list[bytes]:
    column = list(_MACHINES).index(machine)
    fail = _FAIL | errno.EPERM
    calls = [*_NEW_PROCESSES.values(), *_NEW_FILTERS.values()]
    steps = [step for numbers in calls for step in _refused(numbers[column], fail)]
    for numbers, checks in _NO_FILTERS.values():
        steps += _only_if(numbers[column], checks, fail)
    return steps + _only_if(_CLONE[machine], [_Check(0, _ANY_BIT, _CLONE_THREAD)], fail)


def _refused(call: int | None, answer: int) -> list[bytes]:
    return [] if call is None else [_step(_EQUAL, call, 0, 1), _step(_RETURN, answer)]


def _only_if(call: int, checks: list[_Check], fail: int) -> list[bytes]:
    """Allow a call only if its arguments pass; the number of the call stays loaded for the next steps."""
    body: list[bytes] = []
    for check in checks:
        body.append(_step(_LOAD, _ARGUMENTS_AT + 8 * check.argument))
        passed, failed = (1, 0) if check.allows else (0, 1)
        body += [_step(check.test, check.value, passed, failed), _step(_RETURN, fail)]
    body.append(_step(_RETURN, _ALLOW))
    return [_step(_EQUAL, call, 0, len(body)), *body]


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One BPF instruction; the jumps are numbers of instructions to skip."""
    return struct.pack("=HBBI", operation, if_true, if_false, value)
