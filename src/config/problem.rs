//! What is wrong with a configuration, and where.

use std::fmt;

/// Whether the configuration can be used in spite of the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// One problem of a configuration. Never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named, or `environment`, or `command line`.
    pub file: String,
    /// From 1; `None` where there are no lines.
    pub line: Option<usize>,
    pub severity: Severity,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {severity}: {}", self.text)
    }
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: Option<usize>,
}

impl Place {
    pub(crate) fn new(file: &str, line: Option<usize>) -> Place {
        Place { file: file.to_owned(), line }
    }

    pub(crate) fn error(&self, text: impl Into<String>) -> Problem {
        self.problem(Severity::Error, text.into())
    }

    pub(crate) fn warning(&self, text: impl Into<String>) -> Problem {
        self.problem(Severity::Warning, text.into())
    }

    fn problem(&self, severity: Severity, text: String) -> Problem {
        Problem { file: self.file.clone(), line: self.line, severity, text }
    }
}

/// The known name that `name` was most likely meant to be: at most a third of its letters differ.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's edit distance. Names are cut at 64 characters: a longer one is nobody's typing error.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(!from.eq_ignore_ascii_case(&to));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name() {
        let known = ["port", "host", "pooler_mode", "idle_timeout"];
        for (name, found) in [
            ("prot", Some("port")),
            ("pool_mode", Some("pooler_mode")),
            ("Idle_Timeout", Some("idle_timeout")),
            ("idletimeout", Some("idle_timeout")),
            ("something_else", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known), found, "{name}");
        }
    }

    #[test]
    fn display() {
        let problem = Place::new("a.toml", Some(3)).error("no");
        assert_eq!(problem.to_string(), "a.toml:3: error: no");
        let problem = Place::new("environment", None).warning("hm");
        assert_eq!(problem.to_string(), "environment: warning: hm");
    }
}
