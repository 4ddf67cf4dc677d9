//! Makes one test of every case in `cases/*.yaml`, named after it: a failing test says which rule is broken.
//!
//! Reads only the lines `- case: NAME`; the tests read the files themselves.

use std::fmt::Write as _;
use std::path::Path;

/// Files whose cases are run by code of their own.
const OWN_RUNNER: [&str; 3] = ["guard", "membership", "reach"];

fn main() {
    println!("cargo:rerun-if-changed=cases");
    let mut names: Vec<_> = std::fs::read_dir("cases").expect("cases").map(|it| it.expect("an entry").path()).collect();
    names.sort();
    let mut tests = String::new();
    for path in names {
        let file = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if OWN_RUNNER.contains(&file.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable file");
        writeln!(tests, "mod {file} {{").expect("writing to a String");
        for case in text.lines().filter_map(|line| line.strip_prefix("- case: ")) {
            let name: String = case.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }).collect();
            writeln!(tests, "    #[test]\n    fn r#{}() {{ super::run({file:?}, {case:?}); }}", name.to_lowercase())
                .expect("writing to a String");
        }
        tests.push_str("}\n");
    }
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("cases.rs"), tests).expect("a writable folder");
}
