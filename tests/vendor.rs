//! Every direct dependency has a note in `vendor-notes`, and the note names the version that is locked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// What a note says something about.
const SUBJECTS: [&str; 8] = [
    "why",
    "version",
    "features",
    "licence",
    "transitive crates",
    "unsafe and C code",
    "hostile input",
    "exit plan",
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).expect(name)
}

/// The names under `dependencies`, `dev-dependencies` and `build-dependencies`, those of single targets too.
fn direct(manifest: &str) -> BTreeSet<String> {
    let manifest = DeTable::parse(manifest).expect("a manifest");
    let targets = manifest.get_ref().get("target").and_then(|targets| targets.get_ref().as_table());
    let targets = targets.into_iter().flat_map(|targets| targets.values());
    let places =
        targets.filter_map(|target| target.get_ref().as_table()).chain(std::iter::once(manifest.get_ref()));
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = places.flat_map(|place| {
        kinds.iter().filter_map(|kind| place.get(*kind)?.get_ref().as_table()).collect::<Vec<_>>()
    });
    tables.flat_map(|table| table.keys().map(|name| name.get_ref().to_string())).collect()
}

/// The direct dependencies, and the locked version of each: of the product, of the targets for fuzzing, and of
/// the tests beside PostgreSQL's parser.
fn all() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for folder in ["fuzz/", "tests/grammar/", ""] {
        let versions = locked(&read(&format!("{folder}Cargo.lock")));
        let names = direct(&read(&format!("{folder}Cargo.toml")));
        all.extend(names.into_iter().filter(|name| name != "pgdog").map(|name| {
            let version = versions[&name].clone();
            (name, version)
        }));
    }
    all
}

/// The locked versions of a direct dependency, by name, without what follows a plus sign.
fn locked(lock: &str) -> BTreeMap<String, String> {
    let lock = DeTable::parse(lock).expect("a lock file");
    let packages = lock.get_ref().get("package").and_then(|packages| packages.get_ref().as_array());
    let text = |package: &DeTable<'_>, key: &str| match package.get(key).map(|value| value.get_ref()) {
        Some(DeValue::String(text)) => text.to_string(),
        _ => String::new(),
    };
    let packages = packages.expect("packages").iter().filter_map(|package| package.get_ref().as_table());
    packages
        .map(|package| {
            let version = text(package, "version");
            (text(package, "name"), version.split('+').next().unwrap_or_default().to_owned())
        })
        .collect()
}

/// What is wrong with a note.
fn faults(note: &str, name: &str, version: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !note.starts_with(&format!("# {name}\n")) {
        faults.push(format!("{name}: the title is not its name"));
    }
    let about = |subject: &str| {
        note.lines().find_map(|line| line.strip_prefix(&format!("| {subject} | "))?.strip_suffix(" |"))
    };
    for subject in SUBJECTS {
        if about(subject).is_none_or(|text| text.trim().is_empty()) {
            faults.push(format!("{name}: nothing about {subject:?}"));
        }
    }
    let words = about("version").unwrap_or_default();
    if words.split([' ', ',', ';']).next() != Some(version) {
        faults.push(format!("{name}: {version} is locked, the note is about {words:?}"));
    }
    faults
}

#[test]
fn every_direct_dependency_has_its_note() {
    let all = all();
    assert!(
        ["mio", "tokio-postgres", "loom", "libfuzzer-sys", "pg_query"]
            .iter()
            .all(|name| all.contains_key(*name))
    );
    let mut wrong = Vec::new();
    for (name, version) in &all {
        match fs::read_to_string(path(&format!("vendor-notes/{name}.md"))) {
            Ok(note) => wrong.extend(faults(&note, name, version)),
            Err(error) => wrong.push(format!("{name}: vendor-notes/{name}.md: {error}")),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_note_is_about_a_direct_dependency() {
    let all = all();
    for entry in fs::read_dir(path("vendor-notes")).expect("vendor-notes") {
        let file = entry.expect("vendor-notes").file_name().into_string().expect("a name in UTF-8");
        assert!(all.contains_key(file.trim_end_matches(".md")), "{file} is about nothing");
    }
}

#[test]
fn stale_notes_are_found() {
    let manifest = "[dependencies]\na = \"1\"\n[dev-dependencies]\nb = { version = \"2\" }\n";
    assert_eq!(direct(manifest), ["a", "b"].map(String::from).into());
    let lock = "[[package]]\nname = \"a\"\nversion = \"1.2.3+x\"\n";
    assert_eq!(locked(lock), [("a".to_owned(), "1.2.3".to_owned())].into());
    let rows: String = SUBJECTS.iter().map(|subject| format!("| {subject} | 1.2.3 |\n")).collect();
    let note = format!("# a\n\n{rows}");
    assert_eq!(faults(&note, "a", "1.2.3"), [""; 0]);
    assert_eq!(faults(&note, "a", "1.2.4"), ["a: 1.2.4 is locked, the note is about \"1.2.3\""]);
    let short = note.replace("| exit plan | 1.2.3 |\n", "");
    assert_eq!(faults(&short, "a", "1.2.3"), ["a: nothing about \"exit plan\""]);
}
