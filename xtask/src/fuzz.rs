//! `fuzz`: every target of `fuzz/` for some seconds each, with libFuzzer's instrumentation on the stable compiler.

use clap::Args;

use crate::step::{cargo, root, run};

/// What `cargo fuzz` passes too, but for the sanitizers, which need a nightly compiler.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
     -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
const TARGETS: [&str; 5] = ["annotations", "compute", "lookup", "manifests", "resources"];

#[derive(Args)]
pub struct Options {
    /// For each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only this target.
    #[arg(long)]
    target: Option<String>,
}

pub fn fuzz(options: &Options) -> anyhow::Result<()> {
    let folder = root().join("fuzz");
    let target_dir = root().join("target/fuzz");
    let manifest = folder.join("Cargo.toml");
    // Named, the target keeps the flags away from build scripts, which have no fuzzer to link with.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cargo(&["build", "--release", "--bins", "--target", &triple, "--manifest-path"]);
    build.arg(&manifest).arg("--target-dir").arg(&target_dir).env("RUSTFLAGS", INSTRUMENTATION);
    run("build the fuzz targets", &mut build)?;
    let wanted = |name: &&str| options.target.as_deref().is_none_or(|target| *target == **name);
    let targets: Vec<&str> = TARGETS.into_iter().filter(wanted).collect();
    anyhow::ensure!(!targets.is_empty(), "there is no such target; there are {}", TARGETS.join(", "));
    for name in targets {
        let corpus = folder.join("corpus").join(name);
        std::fs::create_dir_all(&corpus)?;
        let artifacts = folder.join("artifacts").join(name);
        std::fs::create_dir_all(&artifacts)?;
        let mut fuzzing = std::process::Command::new(target_dir.join(&triple).join("release").join(name));
        fuzzing.arg(corpus).arg(format!("-max_total_time={}", options.seconds));
        fuzzing.args(["-timeout=10", "-rss_limit_mb=4096", "-print_final_stats=1"]);
        fuzzing.arg(format!("-artifact_prefix={}/", artifacts.display()));
        run(&format!("fuzz {name}"), &mut fuzzing)?;
    }
    Ok(())
}
