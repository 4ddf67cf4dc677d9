//! What the code must look like, as tests: allowed edges between crates, module heads, sizes.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::step::{cargo, root};

const FILE_LINES_MAX: usize = 500;
const MAIN_LINES_MAX: usize = 25;

/// Which of our crates each may use outside its dev-dependencies. A new edge is an architectural decision.
const ALLOWED: &[(&str, &[&str])] = &[
    ("roadstead-routing", &[]),
    ("roadstead-manifests", &["roadstead-routing"]),
    ("roadstead-proto", &["roadstead-routing"]),
    ("roadstead-runtime", &[]),
    ("roadstead-api", &[]),
    ("roadstead-cli", &["roadstead-api", "roadstead-manifests", "roadstead-routing"]),
    ("roadstead-agent", &["roadstead-manifests", "roadstead-proto", "roadstead-routing", "roadstead-runtime"]),
    ("roadstead-edge", &["roadstead-proto", "roadstead-routing", "roadstead-runtime"]),
    (
        "roadstead-controller",
        &["roadstead-api", "roadstead-manifests", "roadstead-proto", "roadstead-routing", "roadstead-runtime"],
    ),
    (
        "roadstead-sim",
        &[
            "roadstead-agent",
            "roadstead-controller",
            "roadstead-edge",
            "roadstead-manifests",
            "roadstead-proto",
            "roadstead-routing",
        ],
    ),
    ("xtask", &[]),
];

/// May use anything, and nothing may use them outside its dev-dependencies.
const TEST_ONLY: &[&str] = &["roadstead-testkit", "roadstead-demo", "roadstead-e2e", "roadstead-bench"];

/// The pure crate's whole dependency list.
const ROUTING_MAY_USE: &[&str] = &["blake3", "ipnet", "regex", "serde", "thiserror"];

#[test]
fn crates_depend_only_on_what_the_architecture_allows() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut violations = Vec::new();
    for (package, dependencies) in dependencies() {
        let ours: BTreeSet<&str> =
            dependencies.iter().map(String::as_str).filter(|name| name.starts_with("roadstead-")).collect();
        match allowed.get(package.as_str()) {
            Some(list) => {
                violations
                    .extend(ours.iter().filter(|name| !list.contains(name)).map(|name| format!("{package} → {name}")));
            }
            None if TEST_ONLY.contains(&package.as_str()) => {
                let circular = ours.iter().filter(|name| TEST_ONLY.contains(name) && **name != "roadstead-testkit");
                violations.extend(circular.map(|name| format!("{package} → {name}")));
            }
            None => violations.push(format!("{package} is not listed in tidy.rs")),
        }
        if package == "roadstead-routing" {
            let foreign = dependencies.iter().filter(|name| !ROUTING_MAY_USE.contains(&name.as_str()));
            violations.extend(foreign.map(|name| format!("{package} → {name}")));
        }
    }
    assert!(violations.is_empty(), "edges that ARCHITECTURE.md does not allow: {violations:#?}");
}

#[test]
fn every_module_opens_with_what_it_is() {
    let headless: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test(path) && !path.to_string_lossy().contains("/generated/"))
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert!(headless.is_empty(), "these do not start with `//!`: {headless:#?}");
}

#[test]
fn files_are_small_enough_to_read() {
    let mut violations = Vec::new();
    for (path, text) in sources() {
        let generated = path.to_string_lossy().contains("/generated/");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().count();
        let max = if path.ends_with("src/main.rs") { MAIN_LINES_MAX } else { FILE_LINES_MAX };
        if path.file_name().is_some_and(|name| name == "mod.rs") {
            violations.push(format!("{}: use foo.rs beside foo/, not mod.rs", path.display()));
        }
        if !generated && !is_test(&path) && code > max {
            violations.push(format!("{}: {code} lines, at most {max}", path.display()));
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

/// Links of the Markdown files to files in the repository lead somewhere.
#[test]
fn links_in_documents_lead_somewhere() {
    let mut dead = Vec::new();
    for path in files(&root(), &["md"]) {
        let text = std::fs::read_to_string(&path).expect("a readable document");
        let folder = path.parent().expect("a file has a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !folder.join(file).exists() {
                dead.push(format!("{} → {target}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// Every test that the table of failures names exists, and is a test.
#[test]
fn failure_semantics_name_real_tests() {
    let document = root().join("docs/failure-semantics.md");
    let text = std::fs::read_to_string(document).expect("a readable document");
    let named =
        text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).filter(|(_, test)| *test != "test");
    let mut missing = Vec::new();
    let mut count = 0;
    for (file, test) in named {
        count += 1;
        let source = std::fs::read_to_string(root().join(format!("e2e/tests/{file}.rs"))).unwrap_or_default();
        if !source.contains(&format!("fn {test}()")) {
            missing.push(format!("{file}::{test}"));
        }
    }
    assert!(count > 0 && missing.is_empty(), "of {count} tests named, these do not exist: {missing:#?}");
}

/// Per workspace package: the names of its normal and build dependencies.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).output().expect("cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let names = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        dependencies
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect()
    };
    packages.iter().map(|package| (package["name"].as_str().expect("a name").to_owned(), names(package))).collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a readable source file");
        (path, text)
    };
    files(&root(), &["rs"]).into_iter().map(read).collect()
}

fn is_test(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.contains("/tests/") || text.ends_with("/tests.rs")
}

fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a readable folder").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && name != "node_modules" && !name.starts_with('.') {
                found.extend(files(&path, extensions));
            }
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            found.push(path);
        }
    }
    found.sort();
    found
}
