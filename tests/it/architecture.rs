//! ARCHITECTURE.md names files and tests: each is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::python::root;

#[test]
fn every_path_and_test_that_the_architecture_names_is_there() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (mut paths, mut tests, mut missing) = (0, 0, Vec::new());
    for name in code(&page) {
        if is_path(name) {
            paths += 1;
            missing.extend(expanded(name).into_iter().filter(|path| !exists(path)));
        } else if is_test(name) {
            tests += 1;
            missing.extend((!has_test(name)).then_some(name).map(str::to_owned));
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    assert!(paths > 80 && tests > 50, "{paths} paths and {tests} tests were found on the page");
}

/// The text in backticks, without whole blocks.
fn code(page: &str) -> impl Iterator<Item = &str> {
    let lines = page.split("```").step_by(2).flat_map(str::lines);
    lines.flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn is_path(name: &str) -> bool {
    let is_part = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || "_/{},.-".contains(char);
    name.contains('/') && !name.starts_with('/') && name.chars().all(is_part)
}

/// A module and perhaps a function; `…` stands for the end of its name.
fn is_test(name: &str) -> bool {
    name.contains("::")
        && name.chars().all(|char| char.is_ascii_lowercase() || "_:…0123456789".contains(char))
}

/// `a/{b,c}` as `a/b` and `a/c`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let (choices, after) = rest.split_once('}').unwrap();
    choices.split(',').flat_map(|choice| expanded(&format!("{before}{choice}{after}"))).collect()
}

fn exists(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let module = root().join("src").join(path);
    root().join(path).exists() || module.exists() || module.with_extension("rs").exists()
}

fn has_test(name: &str) -> bool {
    let parts: Vec<&str> = name.trim_end_matches('…').split("::").collect();
    ["src", "tests/it"].iter().any(|base| is_in(&root().join(base), &parts))
}

/// Whether the first parts are a module below `folder`, and the others are named in its sources.
fn is_in(folder: &Path, parts: &[&str]) -> bool {
    let module = |length: usize| folder.join(parts[..length].join("/"));
    let sources = |length: &usize| {
        let file = module(*length).with_extension("rs");
        let files = if module(*length).is_dir() { below(&module(*length)) } else { Vec::new() };
        let files: Vec<_> = files.into_iter().chain(file.exists().then_some(file)).collect();
        (!files.is_empty()).then_some((*length, files))
    };
    let Some((length, files)) = (1..=parts.len()).rev().collect::<Vec<_>>().iter().find_map(sources) else {
        return false;
    };
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    parts[length..]
        .iter()
        .all(|part| text.contains(&format!("fn {part}")) || text.contains(&format!("mod {part}")))
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}
