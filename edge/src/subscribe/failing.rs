//! What requests have learnt about backends, for controllers.
//!
//! Backends of the live table that have endpoints which may not be used now → the list that an edge sends, sorted by
//! backend and of a bounded length. It changes nothing and does not wait for requests.

use roadstead_proto::resource::backend_id_to_wire;
use roadstead_proto::wire;

use crate::table::FailingBackend;

/// Backends of one list. Of more, those with the lowest ids are named.
pub const FAILING_MAX: usize = 1_000;

pub fn to_wire<'a>(failing: impl Iterator<Item = FailingBackend<'a>>) -> Vec<wire::FailingBackend> {
    let mut failing: Vec<FailingBackend<'_>> = failing.collect();
    failing.sort_by_key(|backend| backend.id);
    failing.truncate(FAILING_MAX);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let entry = |it: &FailingBackend<'_>| wire::FailingBackend {
        backend: Some(backend_id_to_wire(it.id)),
        failing: count(it.failing),
        endpoints: count(it.endpoints),
    };
    failing.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use roadstead_proto::resource::ResourceKey;
    use roadstead_routing::id::{BackendId, ObjectName, PortRef};

    use super::*;

    fn id(cluster: &str, number: usize) -> BackendId {
        let port = if number.is_multiple_of(2) { PortRef::Number(80) } else { PortRef::Name("http".into()) };
        BackendId { cluster: cluster.into(), service: ObjectName::new("shop", format!("web{number:04}")), port }
    }

    #[test]
    fn the_list_is_sorted_and_bounded() {
        let mut ids: Vec<BackendId> = (0..FAILING_MAX).map(|number| id("us", number)).collect();
        ids.extend((0..5).rev().map(|number| id("eu", number)));
        let list = to_wire(ids.iter().map(|id| FailingBackend { id, failing: 1, endpoints: 3 }));
        assert_eq!(list.len(), FAILING_MAX);
        ids.sort();
        let named = list.iter().map(|entry| entry.backend.clone().unwrap());
        let expected = ids[..FAILING_MAX].iter().map(backend_id_to_wire);
        assert!(named.eq(expected));
        assert_eq!((list[0].failing, list[0].endpoints), (1, 3));
    }

    #[test]
    fn a_backend_is_named_as_in_its_key() {
        for (number, key) in [(0, "backend/eu/shop/web0000:80"), (1, "backend/eu/shop/web0001:http")] {
            let named = backend_id_to_wire(&id("eu", number));
            let backend = wire::Backend { id: Some(named), ..wire::Backend::default() };
            let backend = roadstead_proto::resource::backend_from_wire(backend).unwrap();
            assert_eq!(ResourceKey::Backend(backend.id).to_string(), key);
        }
    }
}
