//! Any text as a manifest: no panic, and what is read can be computed with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roadstead_manifests::yaml::from_yaml;
use roadstead_proto::object::{from_wire, to_wire};
use roadstead_routing::compute::build;
use roadstead_routing::id::ClusterId;
use roadstead_routing::inputs::Inputs;
use roadstead_routing::policy::Policy;

fuzz_target!(|text: &str| {
    let mut inputs = Inputs::new(Policy::default());
    for converted in from_yaml(text).into_iter().flatten() {
        let object = converted.object;
        assert_eq!(from_wire(to_wire(&object)).as_ref(), Ok(&object));
        inputs.apply(&ClusterId::from("a"), &object.key(), Some(object));
    }
    build(&inputs);
});
