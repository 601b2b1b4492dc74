"""The system calls that model-written code may not make, as a seccomp filter for bubblewrap.

The namespaces already hide files, processes and networks. The filter closes what they leave open: new
processes (so that the memory limit of the one process is the limit of all), socket families that know
no namespaces (vsock), memory that no limit counts (memfd, System V), and calls with a record of holes
in the kernel. A call that is refused fails with EPERM; `clone3` with ENOSYS, so that the C library makes
its threads by `clone`, whose flags a filter can read.

A filter is a program of 8-byte instructions, see the kernel's `Documentation/userspace-api/seccomp_filter.rst`.
"""

import errno
import platform
import struct

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF operations
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_CLONE_THREAD, _AF_UNIX = 0x10000, 1
_X32 = 0x40000000  # x86-64 only: numbers from here on are another interface to the same calls

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_CLONE3 = 435
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # name: number on x86-64, number on aarch64
    "fork": (57, None), "vfork": (58, None), "unshare": (272, 97), "setns": (308, 268),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272), "process_madvise": (440, 440),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "userfaultfd": (323, 282),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "personality": (135, 92),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsmount": (432, 432), "mount_setattr": (442, 442),
    "setsockopt": (54, 208),  # larger buffers
    "fanotify_init": (300, 262), "open_by_handle_at": (304, 265),
}  # fmt: skip


def supported(machine: str | None = None) -> bool:
    """Whether there is a filter for this machine: x86-64 and aarch64 have one."""
    return (machine or platform.machine()) in _MACHINES


def filter_program(machine: str | None = None) -> bytes:
    """The filter for a machine (default: this one), ready to be read by `bwrap --seccomp`.

    Raises KeyError for a machine that is not `supported`.
    """
    machine = machine or platform.machine()
    column = list(_MACHINES).index(machine)
    fail = _FAIL | errno.EPERM
    steps = [
        _step(_LOAD, _MACHINE_AT),
        _step(_EQUAL, _MACHINES[machine], 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
    ]
    if machine == "x86_64":
        steps += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, fail)]
    for numbers in _DENIED.values():
        if (number := numbers[column]) is not None:
            steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, fail)]
    steps += [_step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, _FAIL | errno.ENOSYS)]
    steps += _only_if(_CLONE[machine], _ANY_BIT, _CLONE_THREAD, fail)
    steps += _only_if(_SOCKET[machine], _EQUAL, _AF_UNIX, fail)
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _only_if(call: int, test: int, value: int, fail: int) -> list[bytes]:
    """Allow a call only if its first argument passes the test; the number is loaded before and after."""
    return [
        _step(_EQUAL, call, 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT_AT),
        _step(test, value, 1, 0),
        _step(_RETURN, fail),
        _step(_RETURN, _ALLOW),
    ]


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; the jumps count the instructions to leave out."""
    return struct.pack("=HBBI", operation, if_true, if_false, value)
