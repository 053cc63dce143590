"""A small program that becomes a server, or a process of the crew: it gives up root and executes.

Run by path with `python -I -S`, so that no code runs between fork and exec in a process with threads. With `detach` it
leaves the caller's session, prints the server's process id and ends, so that the server is nobody's child: a command
that goes on living never has a dead server as its zombie.
Its one argument is a JSON object, which everybody can read: secrets come by the environment. It imports nothing of shopfloor.
"""

import ctypes
import json
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWNS = 0x20000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_SLAVE = 2, 4, 1 << 12, 1 << 14, 1 << 19


def main() -> None:
    plan = json.loads(sys.argv[1])
    try:
        if plan["detach"]:
            os.setsid()
            child = os.fork()
            if child:
                os.write(1, b"%d\n" % child)
                os._exit(0)
            os.dup2(2, 1)
        if plan["closed"]:
            _open_up(plan["closed"], plan["passages"])
        if plan["detach"] or plan["uid"] is not None:
            os.umask(0o077)
        if plan["oom_score"] is not None:
            _shelter(plan["oom_score"])
        if plan["uid"] is not None:
            _shed_root(plan["uid"], plan["gid"], search=plan["search"])
        if plan["dies_with_parent"] and sys.platform == "linux":
            # Here, because a change of user undoes it.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if plan["cwd"] is not None:
            os.chdir(plan["cwd"])
        os.execve(plan["argv"][0], plan["argv"], os.environ if plan["env"] is None else plan["env"])
    except OSError as error:
        what = error.filename or f"user {plan['uid']}"
        os.write(2, f"{plan['argv'][0]} was not started as {what}: {error.strerror}\n".encode())
        os._exit(126)


def _open_up(closed: list[str], passages: list[str]) -> None:
    """Leave of each closed folder only the passages, for every user to reach; for this process and its children alone."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
        words = (os.fsencode(word) for word in (source, target, kind))
        _checked(libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(data)), f"mount on {target}")

    os.umask(0o022)
    _checked(libc.unshare(_CLONE_NEWNS), "unshare")
    mount("none", "/", "", _MS_REC | _MS_SLAVE, "")  # nothing that is mounted from here on is seen outside
    handles = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in passages]
    for folder in closed:
        mount("none", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=256k")
    for path, handle in zip(passages, handles, strict=True):
        os.makedirs(path, exist_ok=True)
        mount(f"/proc/self/fd/{handle}", path, "", _MS_BIND | _MS_REC, "")
        os.close(handle)


def _shelter(score: int) -> None:
    # Only root may lower it, and containers often forbid even that; the server runs without.
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))
    except OSError:
        pass


def _shed_root(uid: int, gid: int, *, search: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True) if search else None
    if libc:
        _checked(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if libc:
        # Ambient, because it must pass through exec into a program that has no file capabilities.
        bit = 1 << _CAP_DAC_READ_SEARCH
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
        _checked(libc.capset(header, sets), "capset")
        _checked(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH, 0, 0), "prctl")


def _checked(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), call)


main()
