//! The fuzz targets without a fuzzer: each over its corpus, and over ten thousand inputs made of it. What `cargo fuzz`
//! does for hours, this does for seconds on every machine that runs the tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use steadfast_tests::fuzz::TARGETS;

const INPUTS: usize = 10_000;
const LONGEST: usize = 4_096;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// A target's seeds, by file name.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = fuzz().join("corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
    files.map(|file| read(file.unwrap().path())).collect()
}

/// Shows the input that a target panics on.
struct Trying<'a> {
    target: &'a str,
    input: &'a [u8],
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("target {}, input b\"{}\"", self.target, self.input.escape_ascii());
        }
    }
}

fn run(target: &str, holds: fn(&[u8])) {
    let seeds: Vec<Vec<u8>> = corpus(target).into_values().collect();
    let attempt = |input: &[u8]| {
        let _shown = Trying { target, input };
        holds(input);
    };
    seeds.iter().for_each(|seed| attempt(seed));
    let mut dice = fastrand::Rng::with_seed(7);
    for _ in 0..INPUTS {
        attempt(&input(&mut dice, &seeds));
    }
}

/// One in eight is noise, the rest are seeds with a few accidents.
fn input(dice: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    if dice.u8(..8) == 0 {
        return (0..dice.usize(..200)).map(|_| dice.u8(..)).collect();
    }
    let mut input = dice.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..dice.u8(1..8) {
        mutate(dice, &mut input, seeds);
    }
    input.truncate(LONGEST);
    input
}

fn mutate(dice: &mut fastrand::Rng, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = dice.usize(..=input.len());
    let end = dice.usize(at..=input.len().min(at + 20));
    match dice.u8(..8) {
        0 if at < input.len() => input[at] ^= 1 << dice.u8(..8),
        1 if at < input.len() => input[at] = dice.u8(..),
        2 => input.insert(at, dice.u8(..)),
        3 => drop(input.drain(at..end)),
        // A part again, here or from another seed.
        4 => {
            let part = input[at..end].to_vec();
            input.splice(at..at, part);
        }
        5 => {
            let other = dice.choice(seeds).cloned().unwrap_or_default();
            let from = dice.usize(..=other.len());
            let to = dice.usize(from..=other.len().min(from + 40));
            input.splice(at..at, other[from..to].iter().copied());
        }
        // A number becomes another, or a huge one.
        6 => {
            let digits: Vec<usize> = (0..input.len()).filter(|at| input[*at].is_ascii_digit()).collect();
            if let Some(at) = dice.choice(digits) {
                input[at] = b'0' + dice.u8(..10);
            }
        }
        _ => {
            let number =
                *dice.choice(&["0", "-1", "4294967296", "18446744073709551615", "1e99", "null", "\"\""]).unwrap();
            input.splice(at..end, number.bytes());
        }
    }
}

#[test]
fn every_target_holds_over_its_corpus_and_what_it_becomes() {
    std::thread::scope(|scope| {
        for (target, holds) in TARGETS {
            scope.spawn(|| run(target, *holds));
        }
    });
}

/// A target that is in the table and nowhere else would never be fuzzed.
#[test]
fn every_target_has_its_bin_and_its_seeds() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for (target, holds) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "fuzz/Cargo.toml has no bin {target}");
        let bin = fs::read_to_string(fuzz().join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(bin.contains(&format!("fuzz::{target}::holds")), "fuzz/fuzz_targets/{target}.rs runs something else");
        assert!(corpus(target).len() >= 3, "fuzz/corpus/{target} has hardly any seeds");
        holds(b"");
    }
}
