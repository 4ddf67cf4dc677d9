//! Rebuilds the crate when a migration changes: `sqlx::migrate!` embeds the files, but cargo does not see it read them.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
