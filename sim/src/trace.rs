//! What happened, as lines for people: the last few of them always, all of them on request, and a hash over all that
//! says whether two runs were the same.

use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;

use crate::agenda::Ms;

/// Lines that a failing seed shows.
pub const LAST_LINES: usize = 60;

pub struct Trace {
    last: VecDeque<String>,
    /// `Some`: keeps everything.
    all: Option<Vec<String>>,
    hash: u64,
}

impl Trace {
    pub fn new(keep: Keep) -> Self {
        let all = (keep == Keep::All).then(Vec::new);
        // The offset basis of FNV-1a.
        Self { last: VecDeque::new(), all, hash: 0xcbf2_9ce4_8422_2325 }
    }

    pub fn note(&mut self, at: Ms, what: fmt::Arguments<'_>) {
        let mut line =
            if self.last.len() == LAST_LINES { self.last.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        // Writing to a String cannot fail.
        let _ = write!(line, "{:>4}.{:03} {what}", at / 1000, at % 1000);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(all) = &mut self.all {
            all.push(line.clone());
        }
        self.last.push_back(line);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn into_lines(self) -> Vec<String> {
        self.all.unwrap_or_else(|| self.last.into())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Keep {
    #[default]
    Last,
    All,
}
