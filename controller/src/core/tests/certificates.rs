//! Certificates from Secrets to edges: with the hosts that show them, and only as long.

use roadstead_proto::digest::Digest;
use roadstead_proto::resource::ResourceKey;
use roadstead_proto::wire;
use roadstead_proto::wire::RemovalCause::Deleted;
use roadstead_routing::id::{HostKey, Kind, ObjectName};
use roadstead_routing::object::{Certificate, Hidden, Ingress, IngressTls, Object, Secret, SecretContent};
use roadstead_routing::table::SecretId;

use crate::world::{Base, Change, Outcome};

use super::harness::{EdgeModel, Harness, ingress, key, service};

/// Of the harness's clock, in seconds.
const NOW: i64 = 1_000;

fn secret(name: &str, bytes: &str, not_after: i64) -> Object {
    let content = SecretContent::Certificate(Certificate {
        names: vec!["a.example.com".into()],
        not_before: 0,
        not_after,
        chain: bytes.as_bytes().into(),
        key: Hidden(b"a key".as_slice().into()),
    });
    Object::Secret(Secret { name: ObjectName::new("shop", name), meta: Default::default(), content }.into())
}

fn secured(secrets: &[&str]) -> Object {
    let Object::Ingress(it) = ingress("a", "a.example.com", "web") else { panic!("an Ingress") };
    let tls = |secret: &&str| IngressTls { hosts: vec!["a.example.com".into()], secret_name: (*secret).into() };
    Object::Ingress(Ingress { tls: secrets.iter().map(tls).collect(), ..(*it).clone() }.into())
}

fn certificate(name: &str) -> ResourceKey {
    ResourceKey::Secret(SecretId { cluster: "eu".into(), secret: ObjectName::new("shop", name) })
}

/// What the edge holds of a certificate.
fn chain(edge: &EdgeModel, name: &str) -> Option<String> {
    match &edge.held.get(&certificate(name))?.1 {
        wire::resource_upsert::Resource::Secret(it) => Some(String::from_utf8(it.chain.clone()).unwrap()),
        other => panic!("{other:?}"),
    }
}

/// What the edge's host names.
fn shown(edge: &EdgeModel) -> Option<String> {
    let table = edge.table();
    let host = table.hosts.get(&("public".into(), HostKey::Exact("a.example.com".into())))?;
    host.certificate.as_ref().map(|id| id.secret.name.to_string())
}

#[test]
fn a_certificate_goes_to_edges_before_its_host_and_is_renewed_without_it() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let edge = it.edge(EdgeModel::named("e1"));
    it.upsert(agent, 1, &[secured(&["tls"]), service("web"), secret("tls", "one", NOW * 2), secret("x", "x", NOW * 2)]);
    assert_eq!(shown(&it.edges[&edge]).as_deref(), Some("tls"));
    assert_eq!((chain(&it.edges[&edge], "tls").as_deref(), chain(&it.edges[&edge], "x")), (Some("one"), None));
    let order: Vec<&str> = it.edges[&edge]
        .updates
        .iter()
        .flat_map(|update| &update.upserts)
        .map(|upsert| match upsert.resource.as_ref().unwrap() {
            wire::resource_upsert::Resource::Host(_) => "host",
            wire::resource_upsert::Resource::Backend(_) => "backend",
            wire::resource_upsert::Resource::Secret(_) => "certificate",
        })
        .collect();
    assert_eq!(order, ["backend", "certificate", "host"]);

    it.edges.get_mut(&edge).unwrap().updates.clear();
    it.upsert(agent, 2, &[secret("tls", "two", NOW * 2)]);
    assert_eq!(chain(&it.edges[&edge], "tls").as_deref(), Some("two"));
    let sent: usize = it.edges[&edge].updates.iter().map(|update| update.upserts.len()).sum();
    assert_eq!(sent, 1, "the host is as it was");
    let counts = it.core.publish().pools().values().map(|pool| (pool.backend_count(), pool.certificate_count()));
    assert_eq!(counts.collect::<Vec<_>>(), [(1, 1)]);
}

#[test]
fn a_secret_that_goes_takes_its_certificate_along_and_the_host_stays() {
    let mut it = Harness::guarded();
    let agent = it.agent("eu");
    let edge = it.edge(EdgeModel::named("e1"));
    it.upsert(agent, 1, &[secured(&["tls"]), service("web"), secret("tls", "one", NOW * 2)]);
    it.remove(agent, 2, &[(key(Kind::Secret, "tls"), Deleted)]);
    assert_eq!((shown(&it.edges[&edge]), chain(&it.edges[&edge], "tls")), (None, None));
    assert_eq!(it.hosts(), ["a.example.com"]);
    assert!(it.codes().contains(&"certificate-missing".to_owned()), "{:?}", it.codes());

    it.upsert(agent, 3, &[secret("tls", "two", NOW * 2)]);
    assert_eq!(chain(&it.edges[&edge], "tls").as_deref(), Some("two"));
}

#[test]
fn when_a_certificate_ends_another_is_shown_within_a_minute() {
    let mut it = Harness::new();
    let agent = it.agent("eu");
    let edge = it.edge(EdgeModel::named("e1"));
    it.upsert(agent, 1, &[secret("old", "old", NOW + 90), secret("new", "new", NOW * 2)]);
    it.upsert(agent, 2, &[secured(&["old", "new"]), service("web")]);
    assert_eq!(shown(&it.edges[&edge]).as_deref(), Some("old"));
    it.tick(160_000);
    // A silent one was given up meanwhile.
    let edge = it.edge(EdgeModel::named("e2"));
    assert_eq!(shown(&it.edges[&edge]).as_deref(), Some("new"));
    assert_eq!((chain(&it.edges[&edge], "old"), chain(&it.edges[&edge], "new").as_deref()), (None, Some("new")));
}

#[test]
fn people_are_alerted_while_there_are_secrets_that_nobody_stores() {
    for (forgets, alerts) in [(false, vec![]), (true, vec!["secrets-not-stored"])] {
        let mut it = Harness::forgetful(forgets);
        let agent = it.agent("eu");
        let codes = |it: &Harness| it.core.alerts().into_iter().map(|alert| alert.code).collect::<Vec<_>>();
        it.upsert(agent, 1, &[secured(&["tls"]), secret("tls", "one", NOW * 2)]);
        assert_eq!(codes(&it), alerts);
        it.remove(agent, 2, &[(key(Kind::Secret, "tls"), Deleted)]);
        assert!(codes(&it).is_empty());
    }
}

/// A replica that read of a step in the store lacks the step's Secrets, and hears them from whoever has them.
#[test]
fn what_the_store_passes_over_is_filled_in_at_the_same_position() {
    for forgets in [false, true] {
        let mut it = Harness::forgetful(forgets);
        let agent = it.agent("eu");
        it.upsert(agent, 1, &[secured(&["tls"])]);
        let world = &mut it.core.turn.world;
        let lineage = world.lineage(&"eu".into()).unwrap().clone();
        let told = [secret("tls", "one", NOW * 2), service("web")];
        let digest = |object: &Object| Digest::of(&roadstead_proto::object::to_wire(object));
        let change = Change {
            cluster: "eu".into(),
            base: Base::Exactly(lineage.position),
            lineage,
            upserts: told.iter().map(|object| (object.clone(), digest(object))).collect(),
            removals: Vec::new(),
        };
        let is_applied = matches!(world.apply(change), Outcome::Applied(_));
        let counts = [Kind::Secret, Kind::Service].map(|kind| world.count(&"eu".into(), kind));
        assert_eq!((is_applied, counts), (forgets, [usize::from(forgets), 0]));
    }
}

/// Nobody stored the Secret, and its agent has not said yet that it is still there.
#[test]
fn after_a_restart_without_stored_secrets_edges_keep_what_they_show_until_an_agent_has_spoken() {
    for is_still_there in [true, false] {
        let mut it = Harness::forgetful(true);
        let agent = it.agent("eu");
        let edge = it.edge(EdgeModel::named("e1"));
        it.upsert(agent, 1, &[secured(&["tls"]), service("web"), secret("tls", "one", NOW * 2)]);
        let model = it.edge_leaves(edge);

        let mut it = it.restart_guarded(0);
        let edge = it.edge(model);
        assert_eq!(
            (shown(&it.edges[&edge]).as_deref(), chain(&it.edges[&edge], "tls").as_deref()),
            (Some("tls"), Some("one"))
        );
        assert!(!it.codes().contains(&"certificate-missing".to_owned()));
        let agent = it.agent("eu");
        if is_still_there {
            it.upsert(agent, 1, &[secret("tls", "one", NOW * 2)]);
        }
        it.complete(agent, Kind::Secret, u64::from(is_still_there));
        let (host, certificate) = (shown(&it.edges[&edge]), chain(&it.edges[&edge], "tls"));
        assert_eq!((host.is_some(), certificate.is_some()), (is_still_there, is_still_there));
        let sent: usize = it.edges[&edge].updates.iter().map(|update| update.upserts.len()).sum();
        assert_eq!(it.codes().contains(&"certificate-missing".to_owned()), !is_still_there);
        assert!(!is_still_there || sent == 3, "nothing is sent again: {sent}");
    }
}
