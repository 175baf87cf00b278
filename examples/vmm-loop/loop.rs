// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A VMM's loop for the ACPI notifications of a passed-through device (mechanism eventq).
//!
//!     loop FD
//!
//! FD is the device's VFIO descriptor, which a VMM has and this program inherits. A real loop hands
//! each value to the guest; this one prints it. It ends when the device is closed.
//!
//! It has no dependency: a VMM has `ioctl` and the numbers from its crates libc and vfio-bindings.

use std::ffi::{c_int, c_ulong};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::FromRawFd;
use std::process::ExitCode;

const VFIO_DEVICE_FEATURE: c_ulong = 0x3b75; // _IO(';', 100 + 17)
const VFIO_DEVICE_FEATURE_GET: u32 = 1 << 16;
const VFIO_DEVICE_FEATURE_ACPI_NOTIFY: u32 = 14;
const LOOPBACK: u32 = 1 << 0;
const O_CLOEXEC: u32 = 0o2_000_000; // on most architectures, x86-64 among them
const EVENT: usize = 16;

/// Values from here on are for a device's driver; the guest's kernel acts on smaller ones itself.
const FIRST_OF_DEVICE: u32 = 0x80;

/// `struct vfio_device_feature`, and `struct vfio_device_feature_acpi_notify` as its data.
#[repr(C)]
struct GetQueue {
    argsz: u32,
    feature: u32,
    flags: u32,
    open_flags: u32,
    depth: u32,
    value: u32,
}

extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

fn get_queue(device: c_int) -> io::Result<File> {
    let mut request = GetQueue {
        argsz: std::mem::size_of::<GetQueue>() as u32,
        feature: VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_ACPI_NOTIFY,
        flags: 0,
        open_flags: O_CLOEXEC, // a read waits; with O_NONBLOCK an event loop of the VMM does
        depth: 256,
        value: 0,
    };
    // SAFETY: the kernel writes no more than the `argsz` bytes of `request`.
    let fd = unsafe { ioctl(device, VFIO_DEVICE_FEATURE, &mut request) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn run(device: c_int) -> io::Result<()> {
    let mut queue = get_queue(device)?;
    let mut out = io::stdout();
    writeln!(out, "ready")?;
    let mut buffer = [0; 16 * EVENT];
    let mut expected: u32 = 0;
    loop {
        let size = match queue.read(&mut buffer) {
            Ok(0) => break, // the device was closed
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for event in buffer[..size].chunks_exact(EVENT) {
            let field = |at| u32::from_ne_bytes(event[at..at + 4].try_into().unwrap());
            let (flags, sequence, value) = (field(0), field(4), field(8));
            if sequence != expected {
                writeln!(out, "lost {}", sequence.wrapping_sub(expected))?;
            }
            expected = sequence.wrapping_add(1);
            if flags & LOOPBACK == 0 && value >= FIRST_OF_DEVICE {
                writeln!(out, "notify {value:#x}")?;
            }
        }
        out.flush()?;
    }
    writeln!(out, "closed")
}

fn main() -> ExitCode {
    let Some(device) = std::env::args().nth(1).and_then(|text| text.parse().ok()) else {
        eprintln!("usage: loop FD");
        return ExitCode::from(2);
    };
    match run(device) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device {device}: no notifications: {error}");
            ExitCode::FAILURE
        }
    }
}
