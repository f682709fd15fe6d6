"""The steps of a build as shell scripts, and the runner that sees to it that each runs once.

The runner is all that a call of the guest agent brings: ``sh`` with this text on its standard input, so nothing of it
is in an argument list. It begins a step whose folder is not there yet, and else only tells how the step stands: whoever
lost an answer, or died, sends the same text again. The folders are in ``/run``, where only root reads them and a reboot
of the guest forgets them: a step after the first that does not find them says so. POSIX sh and base64 are relied on:
where they fail, no step ends well. Where there is systemd a step is a unit of its own, so that it outlives an agent
that is restarted, as by an upgrade of its package; systemd-run may fail after it was begun, so ``run`` begins once.

Source: ``guest-exec`` of the QEMU guest agent ends when the process has closed its output, so a step has none of it.
"""

import base64
import re
import shlex
from collections.abc import Mapping
from typing import Any

from proxmox_operator.api import Build, BuildFile, BuildStep
from proxmox_operator.planning.templates import Look
from proxmox_operator.proxmox.agent import ExecResult

SHELL = ("/bin/sh", "-s")
"""What the agent is told to run."""

FOLDER = "/run/proxmox-operator-build"

MAX_WORDS = 400
"""Characters of a step's output that are shown."""

_SAID = "proxmox-operator-build"
_ANSWER = re.compile(rf"^{_SAID} (running|rebooted|ended (\d{{1,3}}))$")

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The agent gives a command next to none."""

_RUNNER = """\
# {said} step {number}
umask 077
PATH={path}
export PATH
base={folder}
d=$base/{number}
{begin}
if mkdir "$d" 2>/dev/null; then
base64 -d > "$d/step" 2> "$d/out" <<'STEP'
{payload}
STEP
if [ $? -eq 0 ] && [ -s "$d/step" ]; then
cat > "$d/run" <<'RUN'
mkdir "$1/begun" 2>/dev/null || exit 0
echo $$ > "$1/pid"
cd /
exec </dev/null >"$1/out" 2>&1
umask 022
PATH={path}
HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
export HOME LC_ALL DEBIAN_FRONTEND PATH
set -f
IFS= read -r first <"$1/step"
case $first in '#!'*) interpreter=${{first#??}};; *) interpreter='/bin/sh -e';; esac
$interpreter "$1/step"
echo $? > "$1/code.new"
mv "$1/code.new" "$1/code"
RUN
(
  [ -d /run/systemd/system ] &&
    systemd-run --quiet --no-block --collect -p OOMPolicy=continue /bin/sh "$d/run" "$d" ||
    exec setsid /bin/sh "$d/run" "$d"
) </dev/null >/dev/null 2>&1 &
else
echo 127 > "$d/code"
fi
fi
dead=
if [ -s "$d/pid" ] && ! kill -0 "$(cat "$d/pid")" 2>/dev/null; then dead=1; fi
if [ "$dead" ] && ! [ -s "$d/code" ]; then
  echo 'it was killed' >> "$d/out"
  echo 255 > "$d/code"
fi
if [ -s "$d/code" ]; then echo "{said} ended $(cat "$d/code")"; else echo "{said} running"; fi
tail -c 2000 "$d/out" 2>/dev/null
exit 0
"""

_BEGIN_FIRST = 'mkdir -p "$base"'
_BEGIN_OTHERS = 'if ! [ -d "$base" ]; then echo "{said} rebooted"; exit 0; fi'

_BOOTED = """\
if command -v cloud-init >/dev/null; then
  cloud-init status --wait --long || [ $? -eq 2 ]
fi
"""
"""Exit code 2 is what newer versions say of a boot that went well but for a warning."""

_INSTALL = """\
set -- {names}
if command -v apt-get >/dev/null; then
  tries=12
  until apt-get -q update; do
    [ $((tries -= 1)) -gt 0 ] && sleep 10 || exit 1
  done
  apt-get -q -y -o DPkg::Lock::Timeout=300 install "$@"
elif command -v dnf >/dev/null; then dnf -q -y install "$@"
elif command -v yum >/dev/null; then yum -q -y install "$@"
elif command -v zypper >/dev/null; then zypper -n install "$@"
elif command -v apk >/dev/null; then apk add "$@"
else echo "the guest has none of apt-get, dnf, yum, zypper and apk"; exit 1
fi
"""
"""No option of apt-get waits for the lock of the lists, which the guest's own timer holds now and then after a boot."""

_SEAL = """\
if command -v cloud-init >/dev/null; then cloud-init clean --logs; fi
rm -f /etc/ssh/ssh_host_*key /etc/ssh/ssh_host_*key.pub
: > /etc/machine-id
if [ -f /var/lib/dbus/machine-id ] && ! [ -L /var/lib/dbus/machine-id ]; then rm -f /var/lib/dbus/machine-id; fi
systemctl stop systemd-random-seed.service 2>/dev/null || true
rm -f /var/lib/systemd/random-seed "$HOME/.bash_history"
if command -v apt-get >/dev/null; then apt-get clean; rm -rf /var/lib/apt/lists/*; fi
for manager in dnf yum zypper; do
  if command -v $manager >/dev/null; then $manager clean --all >/dev/null 2>&1 || $manager clean all || true; fi
done
rm -rf /var/log/journal/*
find /var/log -type f \\( -name '*.gz' -o -name '*.[0-9]' -o -name '*.old' \\) -exec rm -f {} +
find /var/log -type f -exec sh -c 'for log; do : > "$log"; done' sh {} +
find /tmp /var/tmp -xdev -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' -exec rm -rf {} +
sync
fstrim -a -v || true
echo sealed
"""
"""What must go fails the build where it cannot; an image without discard is only larger. A random seed is written again
when its service is stopped, which a shutdown does. The last word is what tells that all of it was read and done."""


def runner(build: Build, number: int, *, folder: str = FOLDER) -> str:
    """The text that begins the step, or tells how it stands: ASCII, under 64 KiB. Numbers are as in ``CopyBuild.step``.

    ``folder`` is where the guest keeps how the steps stand.
    """
    script = _script(build, number)
    begin = _BEGIN_FIRST if number == 0 else _BEGIN_OTHERS.format(said=_SAID)
    return _RUNNER.format(
        number=number,
        folder=folder,
        said=_SAID,
        path=_PATH,
        begin=begin,
        payload=base64.encodebytes(script.encode()).decode().rstrip(),
    )


def read(result: ExecResult, *, seal: bool = False) -> Look:
    """What the runner's answer says, of the ``seal`` or another step. The guest may say anything: what is not
    understood is no answer."""
    first, _, rest = result.out.partition("\n")
    match = _ANSWER.match(first.strip())
    if match is None:
        said = words(result.err or result.out)
        return Look(state="Silent", output=said or f"no answer that is understood, exit code {result.code}")
    if match[2] is not None:
        if seal and int(match[2]) == 0 and rest.rstrip().rpartition("\n")[2] != "sealed":
            return Look(state="Ended", code=255, output=f"it did not come to its end / {words(rest)}")
        return Look(state="Ended", code=int(match[2]), output=words(rest))
    return Look(state="Rebooted" if match[1] == "rebooted" else "Running", output=words(rest))


def words(text: str) -> str:
    """The last words of an output on one line, short, and without what a terminal would take for a command."""
    lines = [
        " ".join("".join(c if c.isprintable() else " " for c in line).split()) for line in text.splitlines()
    ]
    told = " / ".join([line for line in lines if line][-5:])
    return told if len(told) <= MAX_WORDS else f"…{told[-MAX_WORDS + 1 :]}"


def seed_data(build: Build) -> dict[str, Any]:
    """User data of the boot: with a network the agent is installed where the image lacks it."""
    if build.network is None:
        return {}
    install = _INSTALL.format(names="qemu-guest-agent")
    start = (
        "systemctl start qemu-guest-agent ||\n"
        "{ rc-update add qemu-guest-agent && rc-service qemu-guest-agent start; } || true"
    )
    return {"runcmd": [["sh", "-c", f"if ! command -v qemu-ga >/dev/null; then\n{install}fi\n{start}\n"]]}


def seed_network(build: Build) -> Mapping[str, Any] | None:
    """Network-config of the boot; None has cloud-init ask by DHCP."""
    return None if build.network is not None else {"version": 2, "ethernets": {}}


def _script(build: Build, number: int) -> str:
    if number == 0:
        return _BOOTED
    if number > len(build.steps):
        return _SEAL
    return _step(build.steps[number - 1])


def _step(step: BuildStep) -> str:
    if step.packages is not None:
        return _INSTALL.format(names=shlex.join(step.packages))
    return "".join(map(_file, step.files)) if step.files is not None else step.script or "\n"


def _file(file: BuildFile) -> str:
    """A file is whole, with owner and mode, before it is in its place."""
    content = base64.encodebytes(file.content.encode()).decode().rstrip()
    return (
        f"path={shlex.quote(file.path)}\n"
        '[ ! -d "$path" ] || { echo "$path is a folder: name a file in it"; exit 1; }\n'
        'mkdir -p "${path%/*}/"\n'
        f"base64 -d > \"$path.new\" <<'FILE'\n{content}\nFILE\n"
        f'chown {file.owner} "$path.new"\nchmod {file.mode} "$path.new"\nmv -f "$path.new" "$path"\n'
    )
