//! Any bytes as a resource or object from the network: no panic, and what is accepted survives another round.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use roadstead_proto::resource::{backend_from_wire, backend_to_wire, host_from_wire, host_to_wire};
use roadstead_proto::{object, wire};
use roadstead_routing::lookup::HostMatcher;

fuzz_target!(|bytes: &[u8]| {
    if let Some(host) = wire::Host::decode(bytes).ok().and_then(|it| host_from_wire(it).ok()) {
        assert_eq!(host_from_wire(host_to_wire(&host)).as_ref(), Ok(&host));
        // It may be refused, but not kill whoever looks at it.
        let _ = HostMatcher::new(&host);
    }
    if let Some(backend) = wire::Backend::decode(bytes).ok().and_then(|it| backend_from_wire(it).ok()) {
        assert_eq!(backend_from_wire(backend_to_wire(&backend)).as_ref(), Ok(&backend));
    }
    if let Some(read) = wire::Object::decode(bytes).ok().and_then(|it| object::from_wire(it).ok()) {
        assert_eq!(object::from_wire(object::to_wire(&read)).as_ref(), Ok(&read));
    }
});
