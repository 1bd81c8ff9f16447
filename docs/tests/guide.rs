//! What the compiler does not see of the guide and of the repository's other pages: that every chapter is in the table
//! of contents and among the doctests, that links lead somewhere, and that the feature table's claims each name a test
//! that exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page of the project, but what is built.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && name != "target" && !(name.starts_with('.') && name != ".github") {
                folders.push(path);
            } else if name.ends_with(".md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

fn chapters() -> Vec<PathBuf> {
    let source = root().join("docs/src");
    pages().into_iter().filter(|page| page.starts_with(&source) && !page.ends_with("SUMMARY.md")).collect()
}

/// A page without its code: fenced blocks, and what stands between backticks.
fn prose(page: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

/// What inline links `](…)` and definitions `[…]: …` lead to, without their titles.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    let defined = prose
        .lines()
        .filter(|line| line.starts_with('['))
        .filter_map(|line| line.split_once("]: "))
        .map(|(_, link)| link);
    let without_title = |link: &str| link.split_whitespace().next().unwrap_or_default().to_owned();
    inline.chain(defined).map(without_title).collect()
}

/// The anchor that GitHub and mdBook give a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Where this repository's files are on the web: how a chapter names what is no chapter, since the book is also read
/// elsewhere.
const REPOSITORY: &str = "https://github.com/steadfast-rs/steadfast/blob/main/";

#[test]
fn every_link_within_the_project_leads_somewhere() {
    let mut dead = Vec::new();
    let mut count = 0;
    let book = root().join("docs/src");
    for page in pages() {
        let text = read(&page);
        for link in links(&text) {
            let (from, path) = match link.strip_prefix(REPOSITORY) {
                Some(path) => (root(), path),
                None => (page.parent().unwrap().to_owned(), link.as_str()),
            };
            if path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, fragment) = path.split_once('#').unwrap_or((path, ""));
            let target = if file.is_empty() { page.clone() } else { from.join(file) };
            let is_page = target.extension().is_some_and(|it| it == "md");
            let has = |fragment: &str| {
                prose(&read(&target)).lines().any(|line| line.starts_with('#') && anchor(line) == fragment)
            };
            let leaves_the_book = page.starts_with(&book)
                && from != root()
                && !target.canonicalize().is_ok_and(|it| it.starts_with(book.canonicalize().unwrap()));
            if !target.exists() || leaves_the_book || (is_page && !fragment.is_empty() && !has(fragment)) {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
    assert!(count > 100, "only {count} links were looked at");
}

#[test]
fn every_chapter_is_in_the_table_of_contents() {
    let source = root().join("docs/src");
    let listed: BTreeSet<PathBuf> =
        links(&read(&source.join("SUMMARY.md"))).iter().map(|link| source.join(link)).collect();
    assert_eq!(listed, chapters().into_iter().collect());
}

/// A page with Rust in it that is not among the doctests is a page that nobody compiles.
#[test]
fn every_page_with_rust_is_compiled() {
    let roots = ["docs/lib.rs", "driver/src/lib.rs", "tests/src/lib.rs"];
    let included: BTreeSet<PathBuf> = roots
        .iter()
        .flat_map(|file| {
            let file = root().join(file);
            let folder = file.parent().unwrap().to_owned();
            let text = read(&file);
            let quoted: Vec<String> = text.split('"').filter(|it| it.ends_with(".md")).map(str::to_owned).collect();
            quoted.into_iter().map(move |path| folder.join(path).canonicalize().unwrap())
        })
        .collect();
    for page in pages() {
        let blocks = read(&page).lines().filter(|line| line.starts_with("```rust")).count();
        let is_compiled = included.contains(&page.canonicalize().unwrap());
        assert!(blocks == 0 || is_compiled, "{} has {blocks} blocks of Rust that nobody compiles", page.display());
    }
    for chapter in chapters() {
        assert!(included.contains(&chapter.canonicalize().unwrap()), "{} is not in docs/lib.rs", chapter.display());
    }
}

#[test]
fn a_chapter_says_what_it_is_for_and_is_short() {
    for chapter in chapters() {
        let text = read(&chapter);
        let mut lines = text.lines();
        let at = chapter.display();
        assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{at} begins with its title");
        let promise = lines.find(|line| !line.is_empty()).unwrap_or_default();
        assert!(
            promise.starts_with("After this chapter you"),
            "{at} begins with what the reader can do after it: {promise}"
        );
        assert!(text.lines().count() <= 200, "{at} has {} lines", text.lines().count());
        let fences: Vec<&str> = text.lines().filter(|line| line.starts_with("```")).collect();
        let unnamed = fences.iter().step_by(2).any(|fence| *fence == "```");
        assert!(!unnamed && fences.len().is_multiple_of(2), "{at}: each block of code says its language");
        let ignored = fences.iter().any(|fence| fence.contains("ignore"));
        assert!(!ignored, "{at}: a block that is ignored is not compiled");
    }
}

/// The rows of the README's table, each a list of its cells.
fn feature_rows() -> Vec<Vec<String>> {
    let readme = read(&root().join("README.md"));
    let section = readme.split("\n## Beside others\n").nth(1).expect("the README has the section *Beside others*");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// Our cell of a row is `[what](path "test_name")`, or plain text where we do not have it.
#[test]
fn every_claim_of_the_feature_table_names_a_test() {
    let mut claims = 0;
    for row in feature_rows() {
        assert_eq!(row.len(), 8, "{row:?}");
        let (feature, ours) = (&row[0], &row[1]);
        assert!(ours == "–" || ours.contains("]("), "{feature}: our cell names no test: {ours}");
        for claim in ours.split("](").skip(1) {
            let (path, rest) =
                claim.split_once(" \"").unwrap_or_else(|| panic!("{feature}: the link has no test's name"));
            let (name, _) = rest.split_once("\")").unwrap_or_else(|| panic!("{feature}: the link has no end"));
            let text = read(&root().join(path));
            let is_there = text.contains(&format!("fn {name}(")) || text.contains(&format!("\"{name}\""));
            assert!(is_there, "{feature}: {path} has no test {name}");
            claims += 1;
        }
    }
    assert!(claims >= 20, "only {claims} claims were looked at");
}

/// What a chapter says of another crate was looked at in the release that its code is compiled with.
#[test]
fn what_is_compared_is_what_is_compiled() {
    let lock = read(&root().join("Cargo.lock"));
    let moving: Vec<PathBuf> =
        chapters().into_iter().filter(|it| it.parent().is_some_and(|it| it.ends_with("moving"))).collect();
    assert!(moving.len() >= 5);
    for chapter in moving {
        let (text, name) = (read(&chapter), chapter.file_stem().unwrap().to_string_lossy().into_owned());
        let said = text.split(&format!("Compared with {name} ")).nth(1).unwrap_or_else(|| panic!("{name}: no version"));
        let version = said.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap().trim_end_matches('.');
        let is_locked = lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n"));
        assert!(is_locked, "{name}: the chapter compares with {version}, and Cargo.lock has another release");
    }
}
