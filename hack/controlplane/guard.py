"""The parent of etcd and the API server, so that they cannot outlive whoever wanted them. Run as a script.

The launcher holds the other end of this process's stdin. Whatever ends the launcher - an exit, Ctrl-C,
SIGKILL - closes that pipe, and the guard then kills its children by their own handles and removes their data.
Should the guard itself be killed, the kernel kills the children (PR_SET_PDEATHSIG; Linux only). It needs a
process of its own because that signal is tied to the *thread* that started the child, and a thread of the
launcher's may end early.

Protocol, one JSON object per line: `{"start": name, "argv": [...], "log": path}` is answered by `{"pid": n}`,
`{"status": true}` by `{"exited": {name: code}}`, `{"end": name}` (for who has something to save) by `{"ended": name}`.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
LOOK_AT_PARENT_SECONDS = 0.5
END_SECONDS = 10


def main() -> None:
    launcher, data = int(sys.argv[1]), sys.argv[2]
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while os.getppid() == launcher:
            # A forked copy of the launcher may hold the pipe open after its death: hence the look at ppid.
            if not select.select([sys.stdin], [], [], LOOK_AT_PARENT_SECONDS)[0]:
                continue
            line = sys.stdin.readline()
            if not line:
                break
            print(json.dumps(answer(json.loads(line), children)), flush=True)
    finally:
        for child in children.values():
            child.kill()  # nothing to save: the data goes with them
        for child in children.values():
            child.wait()
        shutil.rmtree(data, ignore_errors=True)


def answer(request: dict[str, object], children: dict[str, subprocess.Popen[bytes]]) -> dict[str, object]:
    if "status" in request:
        return {
            "exited": {name: code for name, child in children.items() if (code := child.poll()) is not None}
        }
    if "end" in request:
        ended = children.pop(str(request["end"]))
        ended.terminate()
        try:
            ended.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            ended.kill()
            ended.wait()
        return {"ended": request["end"]}
    try:
        children[str(request["start"])] = child = start(request["argv"], str(request["log"]))
    except OSError as error:
        return {"error": str(error)}
    return {"pid": child.pid}


def start(argv: object, log: str) -> subprocess.Popen[bytes]:
    if not isinstance(argv, list):
        raise TypeError("argv is a list")
    guard = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def die_with_guard() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before the call above took hold
            os._exit(1)

    with open(log, "ab") as out:
        # preexec_fn is safe here: the guard has one thread.
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            # Their garbage collector took a third of their time, which the tests lack.
            env={"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "GOGC": "400"},
            preexec_fn=die_with_guard,
        )


if __name__ == "__main__":
    main()
