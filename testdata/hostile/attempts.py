"""What a hostile step tries. Each attempt prints a line: its name, and `denied`, or what it got.

Run as `python3 attempts.py CANARY SOCKET REPORT`: a file of the builder, the name of an abstract socket on which
somebody outside listens, and where the lines go.
"""
import ctypes
import os
import signal
import socket
import sys

CANARY, ABSTRACT, REPORT = sys.argv[1:4]
libc = ctypes.CDLL(None, use_errno=True)
OWN = {os.getpid()}


def call(number, *arguments):
    """A system call by number; raises what it fails with."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if libc.syscall(ctypes.c_long(number), *words) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def attempt(name, what):
    """Denied is an error, or nothing found."""
    try:
        got = what()
    except (OSError, ValueError) as error:
        print(f"{name}: denied ({error})")
    else:
        print(f"{name}: {'denied (nothing found)' if not got else f'GOT {got!r}'}")


def others():
    """Numbers that processes may have, whether they are seen or not."""
    # The first ones, and those that were started not long before.
    me = os.getpid()
    return (pid for pid in [*range(1, 100), *range(max(100, me - 500), me + 20)] if pid not in OWN)


def every(act):
    """Which other processes something can be done to."""
    found = []
    for pid in others():
        try:
            act(pid)
            found.append(pid)
        except OSError:
            pass
    return found


def read(path):
    with open(path, "rb") as file:
        return file.read(64)


def same_root(fd):
    """Whether a directory is the step's root or below it: climbing ends there."""
    here, root = fd, os.stat("/")
    for _ in range(64):
        above = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        if os.path.samestat(os.fstat(above), os.fstat(here)):
            return os.path.samestat(os.fstat(above), root)
        here = above
    return False


def climb(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    return None if same_root(fd) else path


def classic_escape():
    """A second chroot, with the working directory left outside of it."""
    os.makedirs("/cell", exist_ok=True)
    fd = os.open("/", os.O_RDONLY)
    os.chroot("/cell")
    os.fchdir(fd)
    for _ in range(64):
        os.chdir("..")
    return os.listdir(".")


def through_link(target):
    os.makedirs("/links", exist_ok=True)
    link = "/links/" + str(abs(hash(target)))
    os.symlink(target, link)
    return read(link)


def write_through_link():
    """Up and out of the root, by a link: what is written must be inside."""
    up = "../" * 40 + CANARY.lstrip("/")
    os.symlink(up, "/links/up")
    os.makedirs(os.path.dirname(CANARY), exist_ok=True)
    with open("/links/up", "w") as file:
        file.write("hostile")
    return None


def signals():
    return every(lambda pid: os.kill(pid, 0))


def limits(pid):
    new = (ctypes.c_ulong * 2)(0, 0)
    call(302, pid, 7, ctypes.byref(new), ctypes.c_void_p(0))


def memory(pid):
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
    call(310, pid, ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0)


def handle():
    buffer = ctypes.create_string_buffer(136)
    call(304, os.open("/", os.O_RDONLY), buffer, 0)
    return "a file by its handle"


def abstract():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect("\0" + ABSTRACT)
    return "connected"


def reopen_for_writing():
    fd = os.open("/proc/self/oom_score_adj", os.O_RDONLY)
    with open(f"/proc/self/fd/{fd}", "w") as file:
        file.write("0")
    return "written"


def device():
    os.mknod("/disk", 0o60600, os.makedev(254, 0))
    return read("/disk")


if __name__ == "__main__":
    sys.stdout = open(REPORT, "w", buffering=1)
    attempt("the builder's file", lambda: read(CANARY))
    attempt("the builder's file through a link", lambda: through_link(CANARY))
    attempt("the builder's file upwards", lambda: through_link("../" * 40 + CANARY.lstrip("/")))
    attempt("the builder's file upwards from /proc", lambda: read("/proc/self/../.." + CANARY))
    attempt("write through a link", write_through_link)
    # It changes the root of whoever succeeds.
    child = os.fork()
    if child == 0:
        attempt("a second chroot", classic_escape)
        os._exit(0)
    os.waitpid(child, 0)
    for path in ["/proc", "/proc/self", "/proc/self/fd", "/proc/self/task", "/proc/self/cwd", "/proc/self/root",
                 "/dev", "/sys"]:
        attempt(f"climb from {path}", lambda path=path: climb(path))
    for name in ["mem", "environ", "maps", "cmdline", "root/etc/passwd", f"root{CANARY}", "cwd/x", "exe", "fd/0",
                 "fd/3", "map_files", "task/1/environ"]:
        attempt(f"/proc/N/{name}", lambda name=name: every(lambda pid: read(f"/proc/{pid}/{name}")))
    for name in ["kcore", "kmsg", "keys", "sysrq-trigger", "sys/kernel/core_pattern", "self/mem", "1/root", "config.gz"]:
        attempt(f"/proc/{name}", lambda name=name: read(f"/proc/{name}"))
    attempt("write to /proc", lambda: open("/proc/sys/kernel/core_pattern", "w"))
    attempt("reopen for writing", reopen_for_writing)
    attempt("signals", signals)
    attempt("trace", lambda: every(lambda pid: call(101, 0x4206, pid, 0, 0)))
    attempt("memory", lambda: every(memory))
    attempt("limits", lambda: every(limits))
    attempt("priority of processes", lambda: every(lambda pid: call(141, 0, pid, 19)))
    attempt("priority of the user", lambda: call(141, 2, 0, 19) or "set")
    attempt("processors", lambda: every(lambda pid: os.sched_setaffinity(pid, {0})))
    attempt("file handles", handle)
    attempt("abstract sockets", abstract)
    attempt("devices", device)
    attempt("mount", lambda: call(165, b"none", b"/mnt", b"tmpfs", 0, 0) or "mounted")
    attempt("namespaces", lambda: call(272, 0x10000000) or "made")
    attempt("setns", lambda: call(308, os.open("/proc/self/ns/user", os.O_RDONLY), 0) or "entered")
    attempt("modules", lambda: call(175, 0, 0, b"") or "loaded")
    attempt("bpf", lambda: call(321, 0, 0, 0) or "loaded")
    os.kill(os.getpid(), 0)
    try:
        # All that it may signal, but itself.
        os.kill(-1, signal.SIGKILL)
    except OSError:
        pass
    print("survived: everything")
