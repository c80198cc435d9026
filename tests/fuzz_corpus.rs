//! Replays the committed corpora of `fuzz/corpus`, and a short run of random bytes, through what fuzzing runs.

mod fuzz;

use std::path::Path;

use fuzz::bodies::ALL;
use pgdog::base::rng::{Rng, SeededRng};

/// Random inputs of each target, beside its corpus.
const RANDOM_INPUTS: usize = 300;

fn replay(name: &str) {
    let (_, body) = ALL.iter().find(|(of, _)| *of == name).expect("the target is listed");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for file in files {
        let path = file.expect("the folder can be read").path();
        // Shown only if the body panics.
        println!("{}", path.display());
        body(&std::fs::read(&path).expect("the file can be read"));
        count += 1;
    }
    assert!(count > 0, "the corpus of {name} is empty");
    for seed in 0..RANDOM_INPUTS {
        println!("{name}: random input {seed}");
        let mut rng = SeededRng::new(seed as u64);
        let mut bytes = vec![0; rng.below(200) as usize];
        rng.fill(&mut bytes);
        body(&bytes);
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed() {
            let names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets!(frame startup client server scram config session talk sql tls);
