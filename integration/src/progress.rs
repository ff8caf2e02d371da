//! One line per step with the time it took: a spinner on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Prints the steps of a command.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), terminal: std::io::stdout().is_terminal() }
    }

    /// Time since the command began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Does one step and prints its line.
    pub(crate) fn step<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.step_with(what, || work().map(|value| (value, String::new())))
    }

    /// Like [`Self::step`]; the work adds a remark to the line.
    pub(crate) fn step_with<T>(
        &self,
        what: &str,
        work: impl FnOnce() -> Result<(T, String)>,
    ) -> Result<T> {
        let start = Instant::now();
        let spinner = self.terminal.then(|| spinner(what));
        let done = work();
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        let took = format_duration(start.elapsed());
        match done {
            Ok((value, remark)) => {
                let remark = if remark.is_empty() { remark } else { format!("  {remark}") };
                println!("{} {took:>8}  {what}{remark}", self.mark(Mark::Good));
                Ok(value)
            }
            Err(error) => {
                println!("{} {took:>8}  {what}", self.mark(Mark::Bad));
                Err(error)
            }
        }
    }

    /// Prints a heading.
    pub(crate) fn heading(&self, text: &str) {
        if self.terminal {
            println!("\n\x1b[1m{text}\x1b[0m");
        } else {
            println!("\n{text}");
        }
    }

    /// A sign before a line, coloured on a terminal.
    pub(crate) fn mark(&self, mark: Mark) -> &'static str {
        match (mark, self.terminal) {
            (Mark::Good, true) => "\x1b[32m✓\x1b[0m",
            (Mark::Good, false) => "ok  ",
            (Mark::Bad, true) => "\x1b[31m✗\x1b[0m",
            (Mark::Bad, false) => "FAIL",
            (Mark::Skipped, true) => "\x1b[33m-\x1b[0m",
            (Mark::Skipped, false) => "skip",
        }
    }
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Good,
    Bad,
    Skipped,
}

fn spinner(what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed:>8}  {msg}");
    let bar = ProgressBar::new_spinner();
    bar.set_style(style.expect("the template is valid"));
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// `1.25 s`, `37 ms`, `250 µs`: three digits are enough.
pub(crate) fn format_duration(duration: Duration) -> String {
    match duration.as_micros() {
        0..1_000 => format!("{} µs", duration.as_micros()),
        1_000..1_000_000 => format!("{} ms", duration.as_millis()),
        _ => format!("{:.2} s", duration.as_secs_f64()),
    }
}
