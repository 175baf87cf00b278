# SPDX-License-Identifier: GPL-2.0-only
"""One VM: QEMU with a test kernel, the devices, and three channels.

records   a virtio-serial port: JSON lines from the guest, and answers to it (kpatch.run.protocol)
console   the serial port: kernel messages, to a file and to whoever follows
qmp       QEMU's monitor

The channels are inherited sockets, not paths: nobody else can connect, and nothing is left
behind. The guest's root file system is what its confined QEMU sees, read-only; there is no other
way from it to the host.
"""

from __future__ import annotations

import base64
import json
import selectors
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpatch.errors import HarnessError
from kpatch.lib import confine, environment, process
from kpatch.lib.stage import Stage
from kpatch.tables import paths
from kpatch.tables.outcomes import ExitCode
from kpatch.vm import accel, machine, virtme
from kpatch.vm.accel import Accel
from kpatch.vm.guest_image import Images
from ktests import contract

if TYPE_CHECKING:
    from kpatch.vm.qmp import Monitor

# A guest that reads nothing for so long gets no more messages.
SEND_SECONDS = 5.0
# More than a socket holds: one read takes all that is there.
CHUNK = 1 << 18

KERNEL_ARGUMENTS = (
    "acpi.aml_debug_output=1",  # the firmware's methods tell that they have run
    # Whatever level virtme-ng asks for: nothing may be missing on the console. lockdep says with
    # KERN_DEBUG that it switches itself off.
    "ignore_loglevel",
    "intel_iommu=on",
    # While PCI is enumerated one CPU alone runs; ktests/init.sh starts the others. An emulating
    # QEMU 7.2 died then, once in some 400 boots, of a write to a device by a map that was gone,
    # as it would be if another CPU had just changed it. It is also the faster boot.
    "maxcpus=1",
    "mitigations=off",  # under emulation they cost an eighth of all time and guard nothing
    "no_timer_check",
    "nokaslr",  # addresses in reports fit System.map
    "oops=panic",  # what happens after an oops is not worth measuring
    "panic=-1",
    "printk.devkmsg=on",  # no marker of a test may fall to rate limiting
    "sysctl.kernel.hung_task_timeout_secs=30",
    "tsc=reliable",  # emulated, it is read too late for the clocks' watchdog on a busy machine
)

# Of an emulated machine. QEMU on a busy host loses a timer interrupt at times (kpatch.vm.emulator):
# a periodic tick comes again, one-shot timers that wait for one another stand still for ever.
EMULATED_ARGUMENTS = ("highres=off", "nohz=off")

# Where our devices go: without a bus named, QEMU may choose the root bus of the machine's island.
BUS = "pcie.0"

# Of 9p: nobody changes the host's files while the guest runs, and reading each page of a program
# once more whenever it is started takes seconds.
CACHE = ",cache=loose"

# Where the guest mounts something: virtme-ng's init its overlays, ktests/init.sh the images.
MOUNT_POINTS = tuple(
    Path("/", name)
    for name in ("etc", "home", "lib", "mnt", "opt", "root", "run", "srv", "sys", "var")
)

# The kernel opens it for its first program, before there is a devtmpfs.
CONSOLE = Path("/dev/console")

# What virtme-ng's init runs when it is through: the suite waits for this line.
WHEN_READY = "echo ready > /mnt/ready; exec sleep infinity"


@dataclass(frozen=True)
class Setup:
    """All that a VM is made of; ``selftests`` is the image of the kernel's own, if it has any.

    ``arguments`` are the flavor's for the kernel.
    """

    image: Path
    machine: machine.Machine
    firmware: Path
    images: Images
    accel: Accel
    selftests: Path | None = None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """Bytes that came out of the VM: of the channel ``records`` or ``console``."""

    channel: str
    data: bytes


class VM:
    """A running VM. Use `boot`, which ends it whatever happens."""

    def __init__(
        self,
        qemu: subprocess.Popen[bytes],
        channels: dict[str, socket.socket],
    ) -> None:
        self.qemu = qemu
        self._channels = channels
        self._selector = selectors.DefaultSelector()
        for name in ("records", "console"):
            self._selector.register(channels[name], selectors.EVENT_READ, name)
        channels["records"].settimeout(SEND_SECONDS)
        self._deaf = False
        self._monitor: Monitor | None = None

    def output(self, seconds: float) -> Iterator[Output]:
        """Yield what the VM says within ``seconds``: nothing at all after that time.

        What the kernel printed before a record was sent comes before that record. Ends early when
        all that could come has come. A VM that is gone is told by `alive`.
        """
        ready = {key.data for key, _ in self._selector.select(seconds)}
        records = self._receive("records") if "records" in ready else b""
        # Read after the records, so that nothing of before is still on its way.
        if "console" in ready or records:
            yield from self._outputs("console", self._receive("console"))
        yield from self._outputs("records", records)

    def _receive(self, name: str) -> bytes:
        """What the channel holds now; at its end it is watched no more."""
        channel = self._channels[name]
        try:
            data = channel.recv(CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        except ConnectionError:
            data = b""
        if not data and channel in self._selector.get_map():
            self._selector.unregister(channel)
        return data

    @staticmethod
    def _outputs(name: str, data: bytes) -> Iterator[Output]:
        if data:
            yield Output(name, data)

    @property
    def alive(self) -> bool:
        """Whether QEMU runs or has something left to say."""
        return bool(self._selector.get_map())

    def send(self, message: Mapping[str, Any]) -> None:
        """Send the guest a message, a JSON object a line.

        A guest that is gone gets none. One that asks and never reads would block us for ever:
        after SEND_SECONDS nothing is sent to it any more, and its tests end by their limits.
        """
        if self._deaf:
            return
        try:
            self._channels["records"].sendall(json.dumps(message).encode() + b"\n")
        except (ConnectionError, TimeoutError):
            self._deaf = True

    def qmp(self, command: str, **arguments: object) -> object:
        """Run a command of QEMU's monitor; HarnessError (exit 7) when QEMU refuses."""
        if self._monitor is None:
            # Late: most VMs never need it, and asyncio takes a while to load.
            from kpatch.vm.qmp import Monitor

            self._monitor = Monitor(self._channels["qmp"])
        return self._monitor.command(command, arguments)

    def info(self, what: str) -> str:
        """What QEMU's monitor for people says of ``what`` ("registers -a", "lapic 0", …)."""
        asked = {"command-line": f"info {what}"}
        return str(self.qmp("human-monitor-command", **asked)).replace("\r\n", "\n")

    def sysrq(self, keys: str) -> None:
        """Press magic SysRq keys on the serial console: a break, then the key."""
        for key in keys:
            self.qmp("chardev-send-break", id="console")
            with suppress(ConnectionError):
                self._channels["console"].sendall(key.encode())
            # The UART takes one break at a time; sent together they would be lost.
            time.sleep(0.2)

    def close(self) -> None:
        """Let go of the monitor; `started` ends the process."""
        if self._monitor is not None:
            self._monitor.close()
        self._selector.close()


@contextmanager
def boot(setup: Setup, *, stage: Stage) -> Iterator[VM]:
    """Start a VM that runs the suite, and end it with the block."""
    with started(lambda fds: confined(setup, command(setup, fds, stage))) as vm:
        yield vm


def confined(setup: Setup, argv: Sequence[str]) -> list[str]:
    """Return QEMU's command so that it, and by 9p its guest, sees only what a run needs.

    That is /usr, the images, the guest's init, and empty folders where virtme-ng's init puts its
    overlays.
    """
    images = (setup.images.runtime, setup.images.suite, setup.selftests)
    readable = [setup.image, setup.firmware, *(image for image in images if image is not None)]
    guest_programs = virtme.guest_folder()
    devices = [path for path in (CONSOLE, accel.DEVICE if setup.accel.kvm else None) if path]
    return confine.wrap(
        argv,
        # virtme-ng names its init by the path behind all links.
        readable=[*readable, paths.KTESTS, guest_programs, guest_programs.resolve()],
        devices=[path for path in devices if path.exists()],
        empty=[path for path in MOUNT_POINTS if not path.is_symlink()],
    )


@contextmanager
def started(command_for: Callable[[Mapping[str, int]], list[str]]) -> Iterator[VM]:
    """Run the command that is given QEMU's ends of the channels, and end it with the block."""
    pairs = {name: socket.socketpair() for name in ("records", "console", "qmp")}
    try:
        with process.child(
            command_for({name: theirs.fileno() for name, (_, theirs) in pairs.items()}),
            env=environment.clean(),
            stdout=subprocess.PIPE,
            pass_fds=[theirs.fileno() for _, theirs in pairs.values()],
            parent_death="KILL",
        ) as qemu:
            for _, theirs in pairs.values():
                theirs.close()
            vm = VM(qemu, {name: ours for name, (ours, _) in pairs.items()})
            try:
                yield vm
            finally:
                qemu.kill()
                vm.close()
    finally:
        for ours, theirs in pairs.values():
            ours.close()
            theirs.close()


def command(setup: Setup, fds: Mapping[str, int], stage: Stage) -> list[str]:
    """QEMU's argv for a run of the suite; ``fds`` are its ends of the channels."""
    argv = virtme.qemu_command(setup.image, kvm=setup.accel.kvm, stage=stage)
    argv = virtme.without_script_ports(argv)
    argv = virtme.replaced(
        argv, "-chardev", "file,id=console,", f"socket,id=console,fd={fds['console']}"
    )
    argv = _with_kernel_arguments(argv, kernel_arguments(setup), mode="run", ready=WHEN_READY)
    return [
        *argv,
        *_device_arguments(setup),
        *("-chardev", f"socket,id=records,fd={fds['records']}"),
        *("-device", f"virtio-serial-pci,bus={BUS},id=records-bus"),
        *("-device", f"virtserialport,bus=records-bus.0,chardev=records,name={contract.PORT}"),
        *("-chardev", f"socket,id=qmp,fd={fds['qmp']}"),
        *("-mon", "chardev=qmp,mode=control"),
    ]


def shell_command(setup: Setup, mechanism: str, *, stage: Stage) -> list[str]:
    """QEMU's argv for an interactive shell in the test kernel, with the devices present."""
    argv = virtme.qemu_command(setup.image, kvm=setup.accel.kvm, stage=stage, interactive=True)
    mode = f"shell {contract.MECHANISM_ARGUMENT}={mechanism}"
    argv = _with_kernel_arguments(argv, kernel_arguments(setup), mode=mode)
    return confined(setup, [*argv, *_device_arguments(setup)])


def shell(argv: list[str]) -> int:
    """Give the terminal to a VM until it powers off, or is left with Ctrl-A X; QEMU's status."""
    env = environment.clean()
    with process.child(
        argv, env=env, stdin=None, stdout=None, stderr=None, parent_death="KILL"
    ) as qemu:
        return qemu.wait()


def kernel_arguments(setup: Setup) -> list[str]:
    """Return what the kernel's command line says beside the mode: of us, and of the flavor."""
    emulated = () if setup.accel.kvm else EMULATED_ARGUMENTS
    return [*KERNEL_ARGUMENTS, *emulated, *setup.arguments]


def _with_kernel_arguments(
    argv: list[str], ours: Sequence[str], *, mode: str, ready: str = ""
) -> list[str]:
    """Put our init before virtme-ng's, and our kernel arguments before theirs."""
    append = virtme.value_of(argv, "-append")
    words = shlex.split(append, posix=False)
    init = next((word for word in words if word.startswith("init=")), None)
    if init is None:
        raise HarnessError(
            "virtme-ng",
            "its kernel command line has no init=",
            mend="install the version in the lock file",
            code=ExitCode.LOST,
        )
    words = [word + CACHE if word.startswith("rootflags=") else word for word in words]
    script = f"virtme.exec=`{base64.b64encode(ready.encode()).decode()}`"
    words = [script if word.startswith("virtme.exec=") else word for word in words if word != init]
    boot_script = paths.KTESTS / "init.sh"
    tail = [f"VFIO_ACPI={mode}", f"init={boot_script}", "--", init.removeprefix("init=")]
    return virtme.replaced(argv, "-append", append, " ".join([*words, *ours, *tail]))


def _device_arguments(setup: Setup) -> list[str]:
    arguments = [*setup.machine.options(), "-acpitable", f"file={setup.firmware}"]
    images = (setup.images.runtime, setup.images.suite, setup.selftests)
    for index, image in enumerate(image for image in images if image is not None):
        arguments += [
            "-drive",
            f"file={image},format=raw,if=none,id=disk{index},readonly=on",
            "-device",
            f"virtio-blk-pci,bus={BUS},drive=disk{index}",
        ]
    return arguments
