//! The log: lines on standard error, as text or as JSON.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};

use crate::config::LogFormat;

struct Logger {
    format: LogFormat,
}

/// Most lines fit: one allocation each.
const LINE_BYTES: usize = 256;

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
        let mut line = String::with_capacity(LINE_BYTES);
        self.write(&mut line, since, record);
        line.push('\n');
        // One write per line, so that lines of several threads do not mix. Nobody can be told if it fails.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

impl Logger {
    /// Writing to a text cannot fail; what is left out of a message whose own formatting fails is its affair.
    fn write(&self, line: &mut String, since: Duration, record: &Record<'_>) {
        let level = record.level();
        match self.format {
            LogFormat::Text => {
                timestamp(line, since);
                let _ = write!(line, " {level:<5} ");
                let begin = line.len();
                let _ = line.write_fmt(*record.args());
                keep_one_line(line, begin);
            }
            LogFormat::Json | LogFormat::JsonFlattened => {
                let nested = self.format == LogFormat::Json;
                line.push_str("{\"timestamp\":\"");
                timestamp(line, since);
                let _ = write!(line, "\",\"level\":\"{level}\",");
                line.push_str(if nested { "\"fields\":{\"message\":\"" } else { "\"message\":\"" });
                let _ = Json(line).write_fmt(*record.args());
                line.push_str(if nested { "\"},\"target\":\"" } else { "\",\"target\":\"" });
                let _ = Json(line).write_str(record.target());
                line.push_str("\"}");
            }
        }
    }
}

/// What a client sent may be in a message: it must not begin a line of its own.
fn keep_one_line(line: &mut String, begin: usize) {
    let message = &line[begin..];
    if may_have_controls(message) {
        let plain: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        line.replace_range(begin.., &plain);
    }
}

/// The inside of a JSON string.
struct Json<'a>(&'a mut String);

impl fmt::Write for Json<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !may_have_controls(text) && !text.contains(['"', '\\']) {
            self.0.push_str(text);
            return Ok(());
        }
        for c in text.chars() {
            match c {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                c if c.is_control() => write!(self.0, "\\u{:04x}", c as u32)?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// Whether a control character may be in it: those beyond ASCII all begin with this byte.
fn may_have_controls(text: &str) -> bool {
    // Without an early end it takes many bytes at a time.
    text.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == 0x7f) | (byte == 0xc2))
}

/// Year to milliseconds, in UTC: digits by hand, since two lines for each connection are a part of its cost.
fn timestamp(line: &mut String, since: Duration) {
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = crate::base::time::civil(days);
    let digit = |value: u64| char::from(b'0' + (value % 10) as u8);
    let mut two = |value: u64, behind: &str| {
        line.push(digit(value / 10));
        line.push(digit(value));
        line.push_str(behind);
    };
    two(year / 100, "");
    two(year, "-");
    two(month, "-");
    two(day, "T");
    two(rest / 3600, ":");
    two(rest / 60 % 60, ":");
    two(rest % 60, ".");
    let millis = u64::from(since.subsec_millis());
    two(millis / 10, "");
    line.push(digit(millis));
    line.push('Z');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat, text: &str) -> String {
        let mut line = String::new();
        let args = format_args!("{text}");
        let record = Record::builder().args(args).level(log::Level::Info).target("a::b").build();
        Logger { format }.write(&mut line, Duration::new(1_795_277_094, 7_900_000), &record);
        line
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(line(LogFormat::Text, "a\nb\tc\u{85}ä\"\\"), "2026-11-21T16:04:54.007Z INFO  a b c ä\"\\");
        assert_eq!(
            line(LogFormat::Json, "a\"b\\\n"),
            r#"{"timestamp":"2026-11-21T16:04:54.007Z","level":"INFO","fields":{"message":"a\"b\\\u000a"},"target":"a::b"}"#
        );
        assert_eq!(
            line(LogFormat::JsonFlattened, "plain"),
            r#"{"timestamp":"2026-11-21T16:04:54.007Z","level":"INFO","message":"plain","target":"a::b"}"#
        );
    }
}
