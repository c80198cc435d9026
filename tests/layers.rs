//! Holds the architecture: which layer may use which, what the deciding layers must not contain, where `unsafe` is.
//!
//! Reads the tokens of every file under `src`; comments and texts do not count. What is forbidden does not count in
//! `#[cfg(test)]` items either; the order of the layers counts there too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

/// A folder of `src`, its place, and what it uses.
struct Layer {
    name: &'static str,
    number: u8,
    uses: Uses,
}

enum Uses {
    /// Everything with a smaller number.
    Lower,
    /// These alone; all of them have a smaller number.
    Only(&'static [&'static str]),
}

const fn layer(number: u8, name: &'static str, uses: Uses) -> Layer {
    Layer { name, number, uses }
}

/// The table. A folder that is not in it fails the test.
const LAYERS: &[Layer] = &[
    layer(0, "base", Uses::Only(&[])),
    layer(1, "wire", Uses::Only(&["base"])),
    layer(1, "stats", Uses::Only(&["base"])),
    layer(2, "auth", Uses::Only(&["base", "wire"])),
    layer(2, "config", Uses::Only(&["base"])),
    layer(2, "sql", Uses::Only(&["base"])),
    layer(3, "shard", Uses::Only(&["base", "wire", "config", "sql"])),
    layer(4, "cluster", Uses::Only(&["base", "stats", "auth", "config", "sql", "shard"])),
    layer(5, "admin", Uses::Lower),
    layer(6, "session", Uses::Lower),
    layer(7, "reshard", Uses::Lower),
    layer(7, "io", Uses::Only(&["base", "stats", "config"])),
    layer(8, "worker", Uses::Lower),
    layer(9, "control", Uses::Lower),
];

/// Layers that decide: bytes and the time come in, bytes and actions go out.
fn decides(layer: &str) -> bool {
    !matches!(layer, "io" | "worker" | "control")
}

/// What a deciding layer must not name, as a sequence of tokens, and what it is.
const FORBIDDEN: &[(&[&str], &str)] = &[
    (&["TcpStream"], "a socket"),
    (&["TcpListener"], "a socket"),
    (&["UdpSocket"], "a socket"),
    (&["UnixStream"], "a socket"),
    (&["UnixListener"], "a socket"),
    (&["UnixDatagram"], "a socket"),
    (&["ToSocketAddrs"], "the resolver"),
    (&["mio"], "mio"),
    (&["rustls"], "rustls"),
    (&["ring", "::"], "ring"),
    (&["socket2"], "a socket"),
    (&["signal_hook"], "a signal"),
    (&["libc"], "a system call"),
    (&["Instant"], "a clock"),
    (&["SystemTime"], "a clock"),
    (&["thread", "::", "spawn"], "a thread"),
    (&["thread", "::", "scope"], "a thread"),
    (&["thread", "::", "Builder"], "a thread"),
    (&["thread", "::", "sleep"], "a thread"),
    (&["thread_local"], "a hidden argument"),
    (&["HashMap"], "a map in random order"),
    (&["HashSet"], "a set in random order"),
    (&["RandomState"], "a random seed"),
    (&["std", "::", "fs"], "a file"),
    (&["std", "::", "env"], "the environment"),
];

/// Calls of `unwrap` or `expect` outside tests that are right: file, how many, and why they cannot fail.
const MAY_UNWRAP: &[(&str, usize, &str)] = &[(
    "auth/verifier.rs",
    1,
    "PBKDF2's only error is that of HMAC for a bad key length, and HMAC has no bad one",
)];

/// The only file with `unsafe`.
const UNSAFE_FILE: &str = "io/sys.rs";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file, self.line, self.text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
    in_test: bool,
}

/// How a character, whichever, stands among the tokens.
const CHARACTER: &str = "' '";

/// A file below `src`: its path with slashes, and its text.
struct Source {
    path: String,
    text: String,
}

fn find_layer(name: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.name == name)
}

/// Everything that is wrong with the sources.
fn check(sources: &[Source]) -> Vec<Violation> {
    let files: Vec<(&str, Vec<Token>)> =
        sources.iter().map(|source| (&*source.path, tokens(&source.text))).collect();
    let tests: BTreeSet<String> = files.iter().flat_map(|(path, tokens)| test_files(path, tokens)).collect();
    let mut violations = Vec::new();
    for (path, tokens) in &files {
        let of_test_file = tests.contains(*path);
        let mut add = |token: &Token, text: String| {
            violations.push(Violation { file: (*path).to_owned(), line: token.line, text });
        };
        for token in tokens.iter().filter(|token| token.text == "unsafe" && *path != UNSAFE_FILE) {
            add(token, format!("unsafe outside {UNSAFE_FILE}"));
        }
        let Some((folder, _)) = path.split_once('/') else { continue };
        let Some(layer) = find_layer(folder) else {
            violations.push(Violation {
                file: (*path).to_owned(),
                line: 1,
                text: format!("{folder} is no layer"),
            });
            continue;
        };
        for (token, used) in uses(path, tokens) {
            match find_layer(&used) {
                _ if used == layer.name => {}
                // Exported by `base`, at the crate's root as every macro.
                None if used == "invariant" => {}
                None => add(token, format!("crate::{used} is no layer")),
                Some(used) if may_use(layer, used) => {}
                Some(used) => add(token, format!("{} must not use {}", layer.name, used.name)),
            }
        }
        if of_test_file {
            continue;
        }
        let productive: Vec<&Token> = tokens.iter().filter(|token| !token.in_test).collect();
        for (at, token) in productive.iter().enumerate() {
            let is = |wanted: &[&str]| {
                let here = productive[at..].iter().map(|token| &*token.text);
                here.take(wanted.len()).eq(wanted.iter().copied())
            };
            // Deliberate bugs are switched per thread of the simulator; without the feature there is nothing.
            let is_switch = path.ends_with("base/sabotage.rs") && token.text == "thread_local";
            if decides(layer.name) && !is_switch {
                for (_, what) in FORBIDDEN.iter().filter(|(wanted, _)| is(wanted)) {
                    add(token, format!("{} is {what}: {} must not have one", token.text, layer.name));
                }
            }
        }
        let calls: Vec<&Token> = productive
            .windows(4)
            .filter(|window| {
                let [dot, name, open, argument] = window else { return false };
                let call = matches!(&*name.text, "unwrap" | "expect") && dot.text == "." && open.text == "(";
                // `expect` of a parser of ours takes a character.
                call && argument.text != CHARACTER
            })
            .map(|window| window[1])
            .collect();
        let allowed = MAY_UNWRAP.iter().find(|(file, ..)| file == path).map_or(0, |(_, count, _)| *count);
        if calls.len() != allowed {
            for call in &calls {
                add(call, format!(".{}() on what can fail", call.text));
            }
            if calls.is_empty() {
                add(&tokens[0], format!("allowed {allowed} times to unwrap, which it does not"));
            }
        }
    }
    violations
}

fn may_use(layer: &Layer, used: &Layer) -> bool {
    match layer.uses {
        Uses::Lower => used.number < layer.number,
        Uses::Only(names) => names.contains(&used.name),
    }
}

/// The first segment of every path from the crate's root: `crate::x`, `crate::{x, y::z}`, and `super::…` that goes up
/// so far.
fn uses<'t>(path: &str, tokens: &'t [Token]) -> Vec<(&'t Token, String)> {
    let depth = path.split('/').filter(|part| *part != "mod.rs").count();
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token| &token.text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut next = at;
        if text(at) == "crate" && text(at + 1) == "::" {
            next = at + 2;
        } else if text(at) == "super" && (at == 0 || text(at - 1) != "::") {
            let mut ups = 0;
            while text(next) == "super" && text(next + 1) == "::" {
                (ups, next) = (ups + 1, next + 2);
            }
            // Inside `mod tests` one more is needed; a chain that does not reach the root names no layer there.
            if ups < depth || find_layer(text(next)).is_none() {
                next = at;
            }
        }
        if next == at {
            at += 1;
            continue;
        }
        if text(next) == "{" {
            found.extend(group(tokens, next).into_iter().map(|at| (&tokens[at], tokens[at].text.clone())));
        } else {
            found.push((&tokens[at], text(next).to_owned()));
        }
        at = next + 1;
    }
    found
}

/// The first tokens of the members of a group of imports; `open` is its brace.
fn group(tokens: &[Token], open: usize) -> Vec<usize> {
    let (mut depth, mut begins, mut found) = (0, false, Vec::new());
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match &*token.text {
            "{" => (depth, begins) = (depth + 1, depth == 0),
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," => begins = depth == 1,
            _ if begins => {
                found.push(at);
                begins = false;
            }
            _ => {}
        }
    }
    found
}

/// The files of modules that exist in tests only: `#[cfg(test)] mod x;`.
fn test_files(path: &str, tokens: &[Token]) -> Vec<String> {
    let folder = path.strip_suffix("/mod.rs").unwrap_or(path.trim_end_matches(".rs"));
    tokens
        .windows(3)
        .filter(|window| window[0].in_test && window[0].text == "mod" && window[2].text == ";")
        .flat_map(|window| {
            let name = &window[1].text;
            [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
        })
        .collect()
}

/// The tokens of a text in Rust: words and numbers, `::`, and other signs one by one. No comments, no
/// texts; what a character is does not matter.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut i, mut line, mut found) = (0, 1, Vec::<Token>::new());
    while i < chars.len() {
        let begin = i;
        let mut kept = None;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => i = end_of_text(&chars, i),
            '\'' if at(i + 1) == '\\' || (at(i + 2) == '\'' && at(i + 1) != '\'') => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
                kept = Some(CHARACTER.to_owned());
            }
            // A lifetime.
            '\'' => i += 1,
            c if word(c) => {
                while word(at(i)) {
                    i += 1;
                }
                let name: String = chars[begin..i].iter().collect();
                let raw = matches!(&*name, "r" | "br" | "cr") && matches!(at(i), '"' | '#');
                match at(i) {
                    '"' if matches!(&*name, "b" | "c") => i = end_of_text(&chars, i),
                    // `b'x'`: the rest is read as a character.
                    '\'' if name == "b" => {}
                    _ if raw => {
                        let mut fences = 0;
                        while at(i) == '#' {
                            (fences, i) = (fences + 1, i + 1);
                        }
                        // `r#name` has no quote.
                        if at(i) == '"' {
                            i += 1;
                            while i < chars.len()
                                && !(at(i) == '"' && (1..=fences).all(|fence| at(i + fence) == '#'))
                            {
                                i += 1;
                            }
                            i += 1 + fences;
                        }
                    }
                    _ => kept = Some(name),
                }
            }
            c if c.is_whitespace() => i += 1,
            ':' if at(i + 1) == ':' => {
                i += 2;
                kept = Some("::".to_owned());
            }
            c => {
                i += 1;
                kept = Some(c.to_string());
            }
        }
        if let Some(text) = kept {
            found.push(Token { text, line, in_test: false });
        }
        line += chars[begin..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    mark_tests(&mut found);
    found
}

/// The place behind a text that begins with a quote.
fn end_of_text(chars: &[char], quote: usize) -> usize {
    let mut i = quote + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// Marks every item behind `#[cfg(test)]`, up to its closing brace or semicolon.
fn mark_tests(tokens: &mut [Token]) {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut at = 0;
    while at < tokens.len() {
        let here = tokens[at..].iter().map(|token| &*token.text).take(CFG_TEST.len());
        if !here.eq(CFG_TEST) {
            at += 1;
            continue;
        }
        let mut depth = 0;
        for token in tokens.iter_mut().skip(at) {
            token.in_test = true;
            at += 1;
            match &*token.text {
                "{" | "(" | "[" => depth += 1,
                "}" if depth == 1 => break,
                "}" | ")" | "]" => depth -= 1,
                ";" if depth == 0 => break,
                _ => {}
            }
        }
    }
}

fn read(folder: &Path, prefix: &str, sources: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let mut entries: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).expect("file names are UTF-8");
        if path.is_dir() {
            read(&path, &format!("{prefix}{name}/"), sources);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a source is UTF-8");
            sources.push(Source { path: format!("{prefix}{name}"), text });
        }
    }
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    sources
}

#[test]
fn the_sources_keep_to_the_layers() {
    let violations = check(&sources());
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

#[test]
fn the_table_is_ordered() {
    for layer in LAYERS {
        if let Uses::Only(names) = layer.uses {
            for name in names {
                let used = find_layer(name).unwrap_or_else(|| panic!("{name} is no layer"));
                assert!(used.number < layer.number, "{} uses {name}", layer.name);
            }
        }
    }
}

/// Were nothing read, or nothing understood, nothing would be wrong.
#[test]
fn the_sources_are_read() {
    let sources = sources();
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let folder = source.path.split('/').next().unwrap_or_default();
        let tokens = tokens(&source.text);
        used.entry(folder).or_default().extend(uses(&source.path, &tokens).into_iter().map(|(_, name)| name));
    }
    let has = |folder: &str, name: &str| used.get(folder).is_some_and(|names| names.contains(name));
    for (folder, name) in [
        ("wire", "base"),
        ("auth", "base"),
        ("cluster", "config"),
        ("session", "cluster"),
        ("session", "wire"),
        ("worker", "session"),
        ("control", "worker"),
    ] {
        assert!(has(folder, name), "{folder} uses {name}, but that was not seen");
    }
    let sys = sources.iter().find(|source| source.path == UNSAFE_FILE).expect(UNSAFE_FILE);
    assert!(tokens(&sys.text).iter().any(|token| token.text == "unsafe"));
    assert!(sources.iter().any(|source| tokens(&source.text).iter().any(|token| token.in_test)));
}

/// What `check` says of one made-up file.
fn said(path: &str, text: &str) -> Vec<String> {
    let violations = check(&[Source { path: path.into(), text: text.into() }]);
    violations.iter().map(Violation::to_string).collect()
}

#[test]
fn what_is_wrong_is_found() {
    let cases = [
        ("wire/a.rs", "use crate::session::Session;", "src/wire/a.rs:1: wire must not use session"),
        ("wire/a.rs", "use crate::stats::Tally;", "src/wire/a.rs:1: wire must not use stats"),
        ("config/a.rs", "fn f() {\n crate::wire::f() }", "src/config/a.rs:2: config must not use wire"),
        ("io/a.rs", "use crate::session::Side;", "src/io/a.rs:1: io must not use session"),
        ("reshard/a.rs", "use crate::io::net;", "src/reshard/a.rs:1: reshard must not use io"),
        ("base/a.rs", "use crate::{base::x, wire::{y, z}};", "src/base/a.rs:1: base must not use wire"),
        ("base/mod.rs", "use super::wire;", "src/base/mod.rs:1: base must not use wire"),
        ("base/a/b.rs", "use super::super::super::wire;", "src/base/a/b.rs:1: base must not use wire"),
        ("base/a.rs", "#[cfg(test)] mod t { use crate::wire; }", "src/base/a.rs:1: base must not use wire"),
        ("base/a.rs", "use crate::nowhere;", "src/base/a.rs:1: crate::nowhere is no layer"),
        ("misc/a.rs", "", "src/misc/a.rs:1: misc is no layer"),
        ("wire/a.rs", "unsafe { f() }", "src/wire/a.rs:1: unsafe outside io/sys.rs"),
        ("main.rs", "unsafe { f() }", "src/main.rs:1: unsafe outside io/sys.rs"),
        ("session/a.rs", "x\n.unwrap()", "src/session/a.rs:2: .unwrap() on what can fail"),
        ("control/a.rs", "x.expect(\"\")", "src/control/a.rs:1: .expect() on what can fail"),
        (
            "session/a.rs",
            "use std::net::{SocketAddr, TcpStream};",
            "src/session/a.rs:1: TcpStream is a socket: session must not have one",
        ),
        ("base/a.rs", "std::thread::spawn(f)", "src/base/a.rs:1: thread is a thread: base must not have one"),
        (
            "cluster/a.rs",
            "/* a */ let map = HashMap::new();",
            "src/cluster/a.rs:1: HashMap is a map in random order: cluster must not have one",
        ),
        (
            "auth/a.rs",
            "let c = b'\"'; let now = Instant::now(); let d = \"\\\"\";",
            "src/auth/a.rs:1: Instant is a clock: auth must not have one",
        ),
    ];
    for (path, text, expected) in cases {
        assert_eq!(said(path, text), [expected], "{path}: {text}");
    }
}

#[test]
fn what_is_right_is_left_alone() {
    let cases = [
        ("session/a.rs", "use crate::{base::x, wire::{y, config}}; use std::net::{IpAddr, SocketAddr};"),
        ("session/a.rs", "if std::thread::panicking() { x.unwrap_or_else(f).unwrap_or(1) }"),
        ("session/a/b.rs", "use super::super::errors; use super::config;"),
        ("base/a.rs", "// crate::wire, unsafe\n/* HashMap /* x */ mio */ let s = \"unsafe \\\" HashMap\";"),
        ("base/a.rs", "let s = r#\"\" mio \"#; let c = '\"'; let d: &'a str = \"mio\"; let e = '\\'';"),
        ("base/a.rs", "#[cfg(test)]\nmod tests { fn f() { x.unwrap(); HashMap::new(); [1; 2]; } }"),
        ("base/a.rs", "#[cfg(test)] use std::collections::HashMap;"),
        ("wire/a.rs", "crate::invariant!(true, (), \"\");"),
        ("io/sys.rs", "unsafe { libc::f() }"),
        ("io/a.rs", "use mio::Poll; Instant::now(); HashMap::new();"),
        ("auth/a.rs", "attributes.expect(b'r')?; attributes.expect('\\n')?;"),
        ("main.rs", "use pgdog::worker::Worker; x.unwrap();"),
    ];
    for (path, text) in cases {
        assert_eq!(said(path, text), [""; 0], "{path}: {text}");
    }
    let behind = said("base/a.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nfn g() { x.unwrap() }");
    assert_eq!(behind, ["src/base/a.rs:3: .unwrap() on what can fail"]);
}

#[test]
fn files_of_tests_are_known() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
    let unwraps = "fn f() { x.unwrap() }";
    let violations = check(&[
        source("auth/scram/mod.rs", "#[cfg(test)]\nmod tests;\nmod client;"),
        source("auth/scram/tests.rs", unwraps),
        source("config/check.rs", "#[cfg(test)] mod tests;"),
        source("config/check/tests.rs", unwraps),
        source("auth/scram/client.rs", unwraps),
    ]);
    let files: Vec<&str> = violations.iter().map(|violation| &*violation.file).collect();
    assert_eq!(files, ["auth/scram/client.rs"]);
}
