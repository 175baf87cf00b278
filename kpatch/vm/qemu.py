# SPDX-License-Identifier: GPL-2.0-only
"""Run one VM: QEMU with a test kernel, the test devices, and four channels.

records   a virtio-serial port: JSON lines from the guest, and answers to it (kpatch.run.protocol)
console   the serial port: kernel messages
qmp       QEMU's monitor
qtest     QEMU's test interface, by which the host raises interrupts (kpatch.vm.ring)

The channels are sockets that QEMU inherits. They have no path: no other process can connect, and no
file is left behind. The guest's root file system is the host's over 9p, read-only; if bubblewrap
works, it has only the files that the confined QEMU can see (`confined`). The guest has no other
access to the host.
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
from typing import TYPE_CHECKING, Any, cast

from kpatch.errors import HarnessError
from kpatch.lib import confine, environment, process
from kpatch.lib.stage import Stage
from kpatch.tables import paths
from kpatch.tables.outcomes import ExitCode
from kpatch.vm import accel, machine, ring, virtme
from kpatch.vm.accel import Accel
from kpatch.vm.guest_image import Images
from kpatch.vm.qtest import QTest
from ktests import contract

if TYPE_CHECKING:
    from kpatch.vm.qmp import Monitor

CHANNELS = ("records", "console", "qmp", "qtest")

# include/uapi/asm-generic/socket.h; Python has no name for it.
SO_SNDBUFFORCE = 32

# The size in bytes of the buffer of QEMU's end of the console: 40,000 characters.
ROOM = 16 << 20

# Seconds after which a guest that does not read its messages gets no more of them.
SEND_SECONDS = 5.0
# Time limit for the deletion of an unplugged device. When the kernel has released the device, it
# powers the slot off within a fraction of a second.
DELETE_SECONDS = 10.0
POLL_SECONDS = 0.02
# Bytes to read at once: more than a socket's buffer, so one recv() returns everything queued.
CHUNK = 1 << 18

KERNEL_ARGUMENTS = (
    "acpi.aml_debug_output=1",  # the firmware's methods print a line when they run
    # Overrides virtme-ng's loglevel: the console has to show all messages. For example, lockdep
    # reports at KERN_DEBUG that it switches itself off.
    "ignore_loglevel",
    "intel_iommu=on",
    # One CPU during the enumeration of PCI; ktests/init.sh starts the others. With more CPUs QEMU
    # 7.2 (TCG) crashed in about one of 400 boots: it wrote to a device through a memory map that no
    # longer existed, probably because another CPU had changed it. The boot is also faster.
    "maxcpus=1",
    "mitigations=off",  # under emulation they take an eighth of the time and protect nothing
    "no_timer_check",
    "nokaslr",  # so that addresses in reports match System.map
    "oops=panic",  # results after an oops would be worthless
    "panic=-1",
    ring.ARGUMENT,
    "printk.devkmsg=on",  # no rate limit: it would drop the tests' markers
    "sysctl.kernel.hung_task_timeout_secs=30",
    "tsc=reliable",  # on a busy host the clocksource watchdog would reject the emulated TSC
)

# Arguments for emulated machines. On a busy host QEMU sometimes loses a timer interrupt
# (kpatch.vm.emulator). A periodic tick goes on with the next interrupt; a one-shot timer would
# never fire again.
EMULATED_ARGUMENTS = ("highres=off", "nohz=off")

# Bus of the virtio devices. If none is named, QEMU may choose the root bus of the machine's island.
BUS = "pcie.0"

# Mount option of 9p: the guest caches files, which is safe since the host's files do not change
# during a run. Otherwise each start of a program reads its pages again, which takes seconds.
CACHE = ",cache=loose"

# Mount points in the guest: virtme-ng's init mounts overlays on them; ktests/init.sh mounts the
# images below /mnt.
MOUNT_POINTS = tuple(
    Path("/", name)
    for name in ("etc", "home", "lib", "mnt", "opt", "root", "run", "srv", "sys", "var")
)

# The kernel opens this file for init before devtmpfs is mounted.
CONSOLE = Path("/dev/console")

# Shell script that virtme-ng's init runs at its end. The suite waits until it can read from the
# FIFO /mnt/ready.
WHEN_READY = "echo ready > /mnt/ready; exec sleep infinity"


@dataclass(frozen=True)
class Setup:
    """All parts of a VM.

    ``image`` is the kernel (bzImage), ``firmware`` the test firmware (AML), ``images`` are the
    guest's Python and the suite. ``selftests`` is the image of the kernel's own selftests, None if
    the tree has none. ``arguments`` are the flavor's words for the kernel's command line, ``cpus``
    is its number of CPUs.
    """

    image: Path
    machine: machine.Machine
    firmware: Path
    images: Images
    accel: Accel
    selftests: Path | None = None
    arguments: tuple[str, ...] = ()
    cpus: int = virtme.CPUS


@dataclass(frozen=True)
class ChannelOutput:
    """Bytes that the VM sent on the channel ``records`` or ``console``."""

    channel: str
    data: bytes


class VM:
    """A running VM. Create it with `boot`, which kills it at the end of its block."""

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
        self._ring = ring.Ring(QTest(channels["qtest"]))

    def output(self, seconds: float) -> Iterator[ChannelOutput]:
        """Wait up to ``seconds`` for output of the VM, and yield it; nothing after a timeout.

        The wait ends as soon as a channel has data or is closed. Console output that was printed
        before a record was sent is yielded before that record. To learn whether the VM has ended,
        use `alive`.
        """
        ready = {key.data for key, _ in self._selector.select(seconds)}
        records = self._receive("records") if "records" in ready else b""
        # The console is read after the records, so that it has everything printed before them.
        if "console" in ready or records:
            yield from self._outputs("console", self._receive("console"))
        yield from self._outputs("records", records)

    def _receive(self, name: str) -> bytes:
        """Return the data that the channel ``name`` has queued, without blocking.

        When QEMU has closed the channel, it is removed from the selector.
        """
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
    def _outputs(name: str, data: bytes) -> Iterator[ChannelOutput]:
        if data:
            yield ChannelOutput(name, data)

    @property
    def alive(self) -> bool:
        """Return whether the VM may still send output: QEMU has not closed both channels yet.

        False only after QEMU has ended and all its output was read.
        """
        return bool(self._selector.get_map())

    def send(self, message: Mapping[str, Any]) -> None:
        """Send ``message`` to the guest as one line of JSON.

        Does nothing if QEMU has ended. A guest that sends requests and never reads the answers
        would block the harness: if a message cannot be sent within SEND_SECONDS, it and all later
        ones are dropped, and the guest's tests end by their time limits.
        """
        if self._deaf:
            return
        try:
            self._channels["records"].sendall(json.dumps(message).encode() + b"\n")
        except (ConnectionError, TimeoutError):
            self._deaf = True

    def qmp(self, command: str, **arguments: object) -> object:
        """Run the QMP command ``command`` with ``arguments``, and return its answer.

        HarnessError (exit 7) if QEMU reports an error, has ended, or does not answer in time.
        """
        if self._monitor is None:
            # Imported here: most VMs do not need it, and asyncio takes time to load.
            from kpatch.vm.qmp import Monitor

            self._monitor = Monitor(self._channels["qmp"])
        return self._monitor.command(command, arguments)

    def interrupt(self, entries: Sequence[ring.Entry]) -> None:
        """Have the test firmware send the notifications of ``entries``, on one interrupt.

        Does not wait for the firmware. HarnessError (exit 7) as in `Ring.put`.
        """
        self._ring.put(entries)

    def wait_deleted(self, name: str) -> None:
        """Wait until QEMU has no device with the id ``name``: until an unplugged one is deleted.

        The kernel powers the slot off some time after it has released the device; only then does
        QEMU delete the device, so that its id and slot are free. HarnessError (exit 7) if the
        device still exists after DELETE_SECONDS, or as in `qmp`.
        """
        end = time.monotonic() + DELETE_SECONDS
        while name in self._device_ids():
            if time.monotonic() > end:
                raise HarnessError(
                    f"QEMU's device {name}",
                    f"not deleted within {DELETE_SECONDS:g} s: the kernel has not let go of it",
                    hint="see the console log",
                    code=ExitCode.LOST,
                )
            time.sleep(POLL_SECONDS)

    def _device_ids(self) -> set[str]:
        """Return the ids of QEMU's devices that have one (qom-list of /machine/peripheral)."""
        listed = cast(list[dict[str, str]], self.qmp("qom-list", path="/machine/peripheral"))
        return {entry["name"] for entry in listed}

    def info(self, what: str) -> str:
        """Return the answer of QEMU's human monitor to "info WHAT": "lapic 0", for example.

        HarnessError (exit 7) as in `qmp`.
        """
        arguments = {"command-line": f"info {what}"}
        return str(self.qmp("human-monitor-command", **arguments)).replace("\r\n", "\n")

    def sysrq(self, keys: str) -> None:
        """Send the magic SysRq keys ``keys`` by the serial line: for each a break, then the key.

        HarnessError (exit 7) as in `qmp`.
        """
        for key in keys:
            self.qmp("chardev-send-break", id="console")
            with suppress(ConnectionError):
                self._channels["console"].sendall(key.encode())
            # The UART handles one break at a time; without a pause the next one would be lost.
            time.sleep(0.2)

    def close(self) -> None:
        """Close the monitor's connection and the selector. `started` kills QEMU itself."""
        if self._monitor is not None:
            self._monitor.close()
        self._selector.close()


@contextmanager
def boot(setup: Setup, *, stage: Stage) -> Iterator[VM]:
    """Start a VM that runs the suite, and yield it; kill it at the end of the block.

    QEMU is confined if bubblewrap works (`confined`). Raises the errors of `command`.
    """
    with started(lambda fds: confined(setup, command(setup, fds, stage))) as vm:
        yield vm


def confined(setup: Setup, argv: Sequence[str]) -> list[str]:
    """Return QEMU's command ``argv`` confined by bubblewrap; ``argv`` itself if that does not work.

    The confined QEMU, and its guest by 9p, sees the files that `kpatch.lib.confine` shows to every
    program (/usr, a few files of /etc, …), and, read-only, the kernel, the firmware and the images
    of ``setup``, the folder ktests, and virtme-ng's programs for the guest. It also sees empty
    folders as mount points, and no other files of the host. It can open /dev/console and, with KVM,
    /dev/kvm.
    """
    images = (setup.images.runtime, setup.images.suite, setup.selftests)
    readable = [setup.image, setup.firmware, *(image for image in images if image is not None)]
    guest_programs = virtme.guest_folder()
    devices = [path for path in (CONSOLE, accel.DEVICE if setup.accel.kvm else None) if path]
    return confine.wrap(
        argv,
        # virtme-ng names its init by the path with symlinks resolved.
        readable=[*readable, paths.KTESTS, guest_programs, guest_programs.resolve()],
        devices=[path for path in devices if path.exists()],
        empty=[path for path in MOUNT_POINTS if not path.is_symlink()],
    )


def make_room(console: socket.socket) -> None:
    """Let QEMU write to its end of the console long before the harness reads from the other end.

    The serial port sends each character alone, and each takes a message of several hundred bytes
    (unix(7)): the default has room for 278 characters. If there is none, the kernel of the guest
    waits 10 ms and then overwrites what is not sent (drivers/tty/serial/8250), so that a report
    can lack characters if the host is busy. A user without CAP_NET_ADMIN gets what
    net.core.wmem_max allows.
    """
    try:
        console.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, ROOM)
    except PermissionError:
        console.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)


@contextmanager
def started(command_for: Callable[[Mapping[str, int]], list[str]]) -> Iterator[VM]:
    """Start QEMU with its channels and yield the VM; kill it at the end of the block.

    ``command_for`` returns QEMU's argv. Its argument maps the name of each channel to the file
    descriptor of QEMU's end.
    """
    pairs = {name: socket.socketpair() for name in CHANNELS}
    make_room(pairs["console"][1])
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
    """Return QEMU's argv for a run of the suite, not confined.

    ``fds`` maps the name of each channel to the file descriptor of QEMU's end. HarnessError: exit 7
    if virtme-ng's command is not as expected, exit 2 if vng or QEMU is not installed.
    """
    argv = virtme.qemu_command(setup.image, kvm=setup.accel.kvm, stage=stage)
    argv = virtme.without_script_ports(_with_cpus(argv, setup))
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
        *("-chardev", f"socket,id=qtest,fd={fds['qtest']}"),
        *("-object", "qtest,id=interrupts,chardev=qtest,log=none"),
    ]


def shell_command(setup: Setup, mechanism: str, *, stage: Stage) -> list[str]:
    """Return QEMU's argv for an interactive shell in the test kernel, confined as by `confined`.

    ``mechanism`` is the kernel's mechanism, which the guest's tools read from the kernel's command
    line. Raises the errors of `command`.
    """
    argv = virtme.qemu_command(setup.image, kvm=setup.accel.kvm, stage=stage, interactive=True)
    argv = _with_cpus(argv, setup)
    mode = f"shell {contract.MECHANISM_ARGUMENT}={mechanism}"
    argv = _with_kernel_arguments(argv, kernel_arguments(setup), mode=mode)
    return confined(setup, [*argv, *_device_arguments(setup)])


def shell(argv: list[str]) -> int:
    """Run QEMU with ``argv`` on this terminal; return its exit status.

    QEMU ends when the VM powers off or the user presses Ctrl-A X.
    """
    env = environment.clean()
    with process.child(
        argv, env=env, stdin=None, stdout=None, stderr=None, parent_death="KILL"
    ) as qemu:
        return qemu.wait()


def kernel_arguments(setup: Setup) -> list[str]:
    """Return the words to add to the kernel's command line: the harness's and the flavor's."""
    emulated = () if setup.accel.kvm else EMULATED_ARGUMENTS
    return [*KERNEL_ARGUMENTS, *emulated, *setup.arguments]


def _with_kernel_arguments(
    argv: list[str], ours: Sequence[str], *, mode: str, ready: str = ""
) -> list[str]:
    """Return QEMU's ``argv`` with an edited kernel command line (the value of ``-append``).

    The words ``ours`` are added. The kernel starts ktests/init.sh as init, with the path of
    virtme-ng's init as argument, and init.sh then executes that. ``mode`` tells init.sh what to do:
    "run", or "shell" and further kernel arguments. ``ready`` is a shell script that virtme-ng's
    init runs at its end. HarnessError (exit 7) if ``-append`` has no "init=".
    """
    append = virtme.value_of(argv, "-append")
    words = shlex.split(append, posix=False)
    init = next((word for word in words if word.startswith("init=")), None)
    if init is None:
        raise HarnessError(
            "virtme-ng",
            "its kernel command line has no init=",
            hint="install the version in the lock file",
            code=ExitCode.LOST,
        )
    words = [word + CACHE if word.startswith("rootflags=") else word for word in words]
    script = f"virtme.exec=`{base64.b64encode(ready.encode()).decode()}`"
    words = [script if word.startswith("virtme.exec=") else word for word in words if word != init]
    boot_script = paths.KTESTS / "init.sh"
    tail = [f"VFIO_ACPI={mode}", f"init={boot_script}", "--", init.removeprefix("init=")]
    return virtme.replaced(argv, "-append", append, " ".join([*words, *ours, *tail]))


def _with_cpus(argv: list[str], setup: Setup) -> list[str]:
    return virtme.replaced(argv, "-smp", str(virtme.CPUS), str(setup.cpus))


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
