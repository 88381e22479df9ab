//! No two files beside each other need each other, also not by way of others: each can be read before the next.
//!
//! A module and its own submodules may: a `mod.rs` says what is common to its files, and uses them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The module's path below `src`.
type Module = Vec<String>;

#[test]
fn no_file_needs_one_that_needs_it() {
    let sources = sources();
    assert!(sources.len() > 200, "{} files were found", sources.len());
    let needed: BTreeMap<&Module, BTreeSet<Module>> =
        sources.iter().map(|(module, text)| (module, needs(module, text, &sources))).collect();
    assert!(needed.values().map(BTreeSet::len).sum::<usize>() > 600, "few imports were found");
    let circular: Vec<_> = sources
        .keys()
        .filter(|module| reached(module, &needed).contains(*module))
        .map(|module| module.join("::"))
        .collect();
    assert!(circular.is_empty(), "these files need each other: {circular:?}");
}

/// All that a module needs, and all that those need.
fn reached<'m>(module: &Module, needed: &'m BTreeMap<&Module, BTreeSet<Module>>) -> BTreeSet<&'m Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = needed[module].iter().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&needed[module]);
        }
    }
    reached
}

/// The modules that a module's code names, without those that it is part of.
fn needs(module: &Module, text: &str, sources: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let imports = text
        .split("use ")
        .skip(1)
        .filter_map(|rest| rest.split_once(';'))
        .flat_map(|(path, _)| expanded(path));
    imports
        .filter_map(|path| resolve(module, &path, sources))
        .filter(|needed| !module.starts_with(needed))
        .collect()
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.trim().to_owned()] };
    let Some((inside, _)) = rest.rsplit_once('}') else { return Vec::new() };
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for char in inside.chars() {
        depth += i32::from(char == '{') - i32::from(char == '}');
        if char == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(char);
        }
    }
    parts.iter().flat_map(|part| expanded(&format!("{}{}", before.trim(), part.trim()))).collect()
}

/// The file that a path leads to, if it is one of ours.
fn resolve(module: &Module, path: &str, sources: &BTreeMap<Module, String>) -> Option<Module> {
    let mut parts = path.split("::").map(str::trim).peekable();
    let mut found = match *parts.peek()? {
        "crate" => Vec::new(),
        "self" | "super" => module.clone(),
        child if sources.contains_key(&[&module[..], &[child.to_owned()]].concat()) => module.clone(),
        _ => return None,
    };
    parts.next_if(|part| ["crate", "self"].contains(part));
    while parts.next_if_eq(&"super").is_some() {
        found.pop();
    }
    for part in parts {
        found.push(part.to_owned());
        if !sources.contains_key(&found) {
            found.pop();
            break;
        }
    }
    (!found.is_empty()).then_some(found)
}

/// Each file's code by its module, without tests.
fn sources() -> BTreeMap<Module, String> {
    let mut sources = BTreeMap::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &Vec::new(), &mut sources);
    sources
}

fn gather(folder: &Path, module: &Module, sources: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let inner = [&module[..], std::slice::from_ref(&name)].concat();
        if path.is_dir() && name != "tests" {
            gather(&path, &inner, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let of = if name == "mod" { module.clone() } else { inner };
            sources.insert(of, code.collect::<Vec<_>>().join("\n"));
        }
    }
}
