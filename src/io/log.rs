//! The log: lines on standard error, as text or as JSON.

use std::fmt::Write as _;
use std::io::Write as _;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};

use crate::config::LogFormat;

struct Logger {
    format: LogFormat,
}

/// Takes the place of the process's logger. `level` is a name of a level; the first of a list of directives
/// (`pgdog=debug,…`, as in RUST_LOG) whose level can be read counts.
pub fn install(level: &str, format: LogFormat) {
    if log::set_boxed_logger(Box::new(Logger { format })).is_ok() {
        set_level(level);
    }
}

pub fn set_level(level: &str) {
    let names = level.split(',').map(|directive| directive.rsplit('=').next().unwrap_or(directive).trim());
    let level = names.filter_map(|name| LevelFilter::from_str(name).ok()).next();
    log::set_max_level(level.unwrap_or(LevelFilter::Info));
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = timestamp(since.as_secs(), since.subsec_millis());
        let level = record.level();
        let line = match self.format {
            LogFormat::Text => format!("{time} {level:<5} {}\n", one_line(&record.args().to_string())),
            LogFormat::Json => format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"{level}\",\"fields\":{{\"message\":{}}},\"target\":{}}}\n",
                json(&record.args().to_string()),
                json(record.target()),
            ),
            LogFormat::JsonFlattened => format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"{level}\",\"message\":{},\"target\":{}}}\n",
                json(&record.args().to_string()),
                json(record.target()),
            ),
        };
        // One write per line, so that lines of several threads do not mix. Nobody can be told if it fails.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// What a client sent may be in a message: it must not begin a line of its own.
fn one_line(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn json(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn timestamp(seconds: u64, millis: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = crate::base::time::civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines() {
        assert_eq!(one_line("a\nb\tc"), "a b c");
        assert_eq!(json("a\"b\\\n"), "\"a\\\"b\\\\\\u000a\"");
        assert_eq!(timestamp(1_795_277_094, 7), "2026-11-21T16:04:54.007Z");
    }
}
