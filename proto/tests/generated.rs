//! The committed generated code is what the .proto files say. `UPDATE=1 cargo nextest run -p roadstead-proto` rewrites it.

use std::path::Path;

const FILES: [&str; 6] = ["common.proto", "object.proto", "agent.proto", "settings.proto", "edge.proto", "peer.proto"];

#[test]
fn generated_code_matches_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(FILES, [root.join("proto")]).expect("the .proto files must compile");
    let out = tempfile::tempdir().expect("a temporary directory");
    // What holds keys and passwords shows itself without them: see `object/secret.rs`.
    let mut config = tonic_prost_build::Config::new();
    config.skip_debug(["roadstead.v1.Certificate", "roadstead.v1.SecretValue", "roadstead.v1.HostSecret"]);
    let builder = tonic_prost_build::configure().out_dir(out.path());
    builder.compile_fds_with_config(descriptors, config).expect("code generation must succeed");
    let fresh = std::fs::read_to_string(out.path().join("roadstead.v1.rs")).expect("one generated file");
    let committed = root.join("src/generated/roadstead.v1.rs");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&committed, &fresh).expect("write the generated file");
    }
    let known = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(known == fresh, "{} is stale: run with UPDATE=1", committed.display());
}
