//! What people read agrees with the program.

use crate::run::{repository, roadstead};

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

#[test]
fn every_flag_is_explained_and_so_are_the_exit_codes() {
    for (command, document) in [("explain", "docs/explain.md"), ("migrate", "docs/migrate.md")] {
        let help = roadstead(&[command, "--help"], "").out;
        let document = read(document);
        assert!(help.contains("Exit codes: 0"), "{help}");
        let options = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let flags: Vec<&str> = options.filter_map(|line| line.split("--").nth(1)?.split_whitespace().next()).collect();
        assert!(flags.len() > 5, "{flags:?}");
        for flag in flags.into_iter().filter(|flag| !["api", "token-file", "help", "version"].contains(flag)) {
            assert!(document.contains(&format!("`--{flag}")), "--{flag} of {command} is not explained");
        }
    }
}
