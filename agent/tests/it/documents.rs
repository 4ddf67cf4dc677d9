//! What people read and apply agrees with the program.

use std::path::Path;

use clap::{CommandFactory, Parser};
use roadstead_agent::args::Args;
use roadstead_manifests::yaml::from_yaml;
use roadstead_routing::object::Object;
use roadstead_routing::policy::CONTROLLER_NAME;
use serde_json::Value;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_readme_explains_every_flag() {
    let readme = read("README.md");
    let command = Args::command();
    let flags: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    assert!(flags.len() >= 10, "{flags:?}");
    for flag in flags {
        assert!(readme.contains(&format!("| `--{flag} ")), "--{flag} is missing in the table of flags");
    }
}

#[test]
fn every_flag_is_an_environment_variable_of_the_same_name() {
    for argument in Args::command().get_arguments() {
        let Some(flag) = argument.get_long() else { continue };
        let expected = format!("ROADSTEAD_{}", flag.to_uppercase().replace('-', "_"));
        assert_eq!(argument.get_env().and_then(std::ffi::OsStr::to_str), Some(expected.as_str()), "--{flag}");
    }
}

#[test]
fn the_example_deployment_starts_with_valid_flags_and_probes_what_it_serves() {
    let deployment: Value = serde_saphyr::from_str(&read("deploy/deployment.yaml")).unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let flags = container["args"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap());
    let args = Args::try_parse_from(std::iter::once("roadstead-agent").chain(flags)).unwrap();
    assert_eq!(Value::from(args.observe_listen.port()), container["ports"][0]["containerPort"]);
    assert!(args.observe_listen.ip().is_unspecified(), "the kubelet's probes do not come from loopback");
}

#[test]
fn the_ingress_class_is_ours() {
    let objects = from_yaml(&read("deploy/ingressclass.yaml"));
    let [Ok(class)] = &objects[..] else { panic!("one IngressClass: {objects:?}") };
    let Object::IngressClass(class) = &class.object else { panic!("an IngressClass: {class:?}") };
    assert_eq!((&*class.name, &*class.controller), ("roadstead", CONTROLLER_NAME));
}
