// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The decision of a relay: from a word that was read from the eventfd of VFIO_PCI_ACPI_IRQ_INDEX
//! to actions. A VMM copies `relay`; `main` checks it against vectors: it reads lines
//!
//!     FIRST WIDEST RESYNC WORD
//!
//! (numbers in hex; RESYNC "-": none) and prints the actions on each word on one line.

use std::fmt;
use std::io::{self, BufRead};
use std::process::ExitCode;

const VALID: u64 = 1 << 32;
const LOOPBACK: u64 = 1 << 33;
const LOST_SHIFT: u32 = 48;

/// Which values reach the guest, and by which value it is told of a loss.
struct Policy {
    first: u32,
    widest: u32,
    resync: Option<u32>,
}

enum Action {
    Deliver(u32),
    Drop(u32, &'static str),
    Resynchronise(u16, Option<u32>),
    Stop,
}

fn relay(policy: &Policy, word: u64) -> Vec<Action> {
    // Another process wrote to the eventfd: no later word can be trusted.
    if word & VALID == 0 {
        return vec![Action::Stop];
    }
    let lost = (word >> LOST_SHIFT) as u16;
    let value = word as u32;
    let mut actions = Vec::new();
    if lost != 0 {
        actions.push(Action::Resynchronise(lost, policy.resync));
    }
    actions.push(if word & LOOPBACK != 0 {
        Action::Drop(value, "loopback")
    } else if value < policy.first {
        Action::Drop(value, "below")
    } else if value > policy.widest {
        Action::Drop(value, "wide")
    } else {
        Action::Deliver(value)
    });
    actions
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Deliver(value) => write!(out, "deliver {value:#x}"),
            Action::Drop(value, reason) => write!(out, "drop {value:#x} {reason}"),
            Action::Resynchronise(lost, Some(value)) => write!(out, "resynchronise {lost} {value:#x}"),
            Action::Resynchronise(lost, None) => write!(out, "resynchronise {lost} -"),
            Action::Stop => write!(out, "stop"),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn answer(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [first, widest, resync, word] = fields[..] else {
        return None;
    };
    let policy = Policy {
        first: u32::try_from(number(first)?).ok()?,
        widest: u32::try_from(number(widest)?).ok()?,
        resync: match resync {
            "-" => None,
            text => Some(u32::try_from(number(text)?).ok()?),
        },
    };
    let actions = relay(&policy, number(word)?);
    Some(actions.iter().map(Action::to_string).collect::<Vec<_>>().join("; "))
}

fn main() -> ExitCode {
    for line in io::stdin().lock().lines() {
        match line.ok().as_deref().and_then(answer) {
            Some(text) => println!("{text}"),
            None => return ExitCode::FAILURE,
        }
    }
    ExitCode::SUCCESS
}
