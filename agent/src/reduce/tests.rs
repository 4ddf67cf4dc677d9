//! What is reported, and above all what is not taken away.

use super::*;
use crate::fixture::{
    bookmarks, class, failed, finish_list, ingress, key, list, list_all, load_balancer, node, our_class, secret, seen,
    service, showing, slice, unreadable, with_meta,
};
use roadstead_routing::limit::OBJECT_BYTES_MAX;
use roadstead_routing::policy::CONTROLLER_NAME;

fn shop() -> Vec<Object> {
    vec![
        our_class(),
        class("nginx", "k8s.io/ingress-nginx"),
        ingress("web", Some("roadstead"), &["front"]),
        ingress("foreign", Some("nginx"), &["back"]),
        service("front"),
        service("back"),
        slice("front-1", "front", 1),
        slice("back-1", "back", 2),
    ]
}

fn listed(objects: &[Object]) -> Reducer {
    let mut reducer = Reducer::default();
    list_all(&mut reducer, objects);
    reducer
}

fn reported(reducer: &Reducer) -> Vec<String> {
    reducer.reported().keys().map(ToString::to_string).collect()
}

const OURS: [&str; 4] =
    ["IngressClass roadstead", "Ingress shop/web", "Service shop/front", "EndpointSlice shop/front-1"];

fn deleted(kind: Kind, name: &str) -> Change {
    Change::Removal(key(kind, name), Cause::Deleted)
}

fn inferred(kind: Kind, name: &str) -> Change {
    Change::Removal(key(kind, name), Cause::Inferred)
}

#[test]
fn only_what_our_ingresses_need_is_reported() {
    assert_eq!(reported(&listed(&shop())), OURS);
}

#[test]
fn classes_named_by_the_policy_are_ours_too() {
    let mut reducer = listed(&shop());
    let outcome = reducer.set_classes(&["nginx".to_owned()]);
    assert_eq!(outcome.changes.len(), 4, "class, Ingress, Service and slice: {:?}", outcome.changes);
    assert_eq!(reported(&reducer).len(), 8);

    let outcome = reducer.set_classes(&[]);
    let expected = [
        deleted(Kind::IngressClass, "nginx"),
        deleted(Kind::Ingress, "foreign"),
        deleted(Kind::Service, "back"),
        deleted(Kind::EndpointSlice, "back-1"),
    ];
    assert_eq!(outcome.changes, expected);
    assert_eq!(reported(&reducer), OURS);
}

#[test]
fn services_that_the_controller_asks_for_are_reported_without_an_ingress() {
    let mut reducer = listed(&shop());
    let outcome = reducer.set_wanted(&["shop/back".to_owned(), "no name".to_owned()], &[]);
    let expected = [Change::Upsert(key(Kind::Service, "back")), Change::Upsert(key(Kind::EndpointSlice, "back-1"))];
    assert_eq!(outcome.changes, expected);
    let outcome = reducer.apply(Kind::EndpointSlice, seen(&slice("back-2", "back", 3)));
    assert_eq!(outcome.changes, [Change::Upsert(key(Kind::EndpointSlice, "back-2"))]);
    let expected = ["back-1", "back-2"].map(|name| deleted(Kind::EndpointSlice, name));
    let changes = reducer.set_wanted(&[], &[]).changes;
    assert_eq!(changes, [&[deleted(Kind::Service, "back")][..], &expected].concat());
    assert_eq!(reported(&reducer), OURS);
}

/// Rule N-3: certificates and users, of the Ingress's own namespace only.
#[test]
fn secrets_are_reported_while_one_of_our_ingresses_names_them() {
    let mut objects = shop();
    objects.extend(["web-tls", "users", "older", "nobodys", "foreign-tls"].map(secret));
    objects[2] = showing(&objects[2], "web-tls");
    objects[3] = showing(&objects[3], "foreign-tls");
    let mut reducer = listed(&objects);
    let secrets = |reducer: &Reducer| -> Vec<String> {
        let keys = reducer.reported().keys().filter(|key| key.kind == Kind::Secret);
        keys.map(|key| key.name.name.to_string()).collect()
    };
    assert_eq!(secrets(&reducer), ["web-tls"]);

    let with = |annotation: &str, value: &str| {
        let Object::Ingress(ingress) = ingress("web", Some("roadstead"), &["front"]) else { panic!("an Ingress") };
        let annotations = [(annotation.into(), value.into())].into();
        Object::Ingress(std::sync::Arc::new(Ingress { annotations, ..(*ingress).clone() }))
    };
    let cases = [
        ("nginx.ingress.kubernetes.io/auth-secret", "users", vec!["users"]),
        ("roadstead.dev/auth-secret", "shop/older", vec!["older"]),
        ("roadstead.dev/auth-secret", "other/older", vec![]),
    ];
    for (annotation, value, expected) in cases {
        reducer.apply(Kind::Ingress, seen(&with(annotation, value)));
        assert_eq!(secrets(&reducer), expected, "{annotation}: {value}");
    }
    reducer.apply(Kind::Ingress, seen(&objects[2]));
    let gone = reducer.apply(Kind::Secret, Observation::Deleted(key(Kind::Secret, "web-tls")));
    assert_eq!(gone.changes, [deleted(Kind::Secret, "web-tls")]);
}

#[test]
fn every_node_leaves_the_cluster_and_every_service_that_may_be_its_gateway() {
    let mut objects = shop();
    objects.extend([node("worker", true), load_balancer("gateway"), service("nobodys")]);
    let mut reducer = listed(&objects);
    let reports = |reducer: &Reducer, kind, name: &str| reducer.reported().get(&key(kind, name)).is_some();
    assert!(reports(&reducer, Kind::Node, "worker") && reports(&reducer, Kind::Service, "gateway"));
    assert!(!reports(&reducer, Kind::Service, "nobodys"));
    let gone = reducer.apply(Kind::Service, seen(&service("gateway")));
    assert_eq!(gone.changes, [deleted(Kind::Service, "gateway")], "it is no load balancer any more");
    let same = reducer.apply(Kind::Node, seen(&node("worker", true)));
    assert_eq!(same.changes, [], "a status that says the same is no news");
}

#[test]
fn a_secret_that_the_policy_names_leaves_the_cluster_as_long_as_it_does() {
    let mut objects = shop();
    objects.push(secret("fallback"));
    let mut reducer = listed(&objects);
    let named = ["shop/fallback".to_owned()];
    assert_eq!(reducer.set_wanted(&[], &named).changes, [Change::Upsert(key(Kind::Secret, "fallback"))]);
    assert_eq!(reducer.set_wanted(&[], &named).changes, []);
    assert_eq!(reducer.set_wanted(&[], &[]).changes, [deleted(Kind::Secret, "fallback")]);
}

#[test]
fn secrets_that_may_not_be_read_hold_nothing_else_back() {
    let mut reducer = Reducer::default();
    reducer.apply(Kind::Secret, Observation::ListStarted);
    reducer.apply(Kind::Secret, failed());
    Kind::ROUTING.into_iter().for_each(|kind| drop(list(&mut reducer, kind, &shop())));
    list(&mut reducer, Kind::Node, &[]);
    bookmarks(&mut reducer);
    assert!(reducer.settled() && Kind::ROUTING.iter().all(|kind| reducer.complete(*kind)));
    assert!(!reducer.complete(Kind::Secret));
}

#[test]
fn the_order_in_which_kinds_are_listed_does_not_matter() {
    for first in Kind::ALL {
        for second in Kind::ALL {
            let mut reducer = Reducer::default();
            for kind in [first, second].into_iter().chain(Kind::ALL.into_iter().rev()) {
                list(&mut reducer, kind, &shop());
            }
            assert_eq!(reported(&reducer), OURS, "{first} and {second} first");
        }
    }
}

#[test]
fn a_service_shared_by_two_ingresses_stays_until_neither_refers_to_it() {
    let mut objects = shop();
    objects.push(ingress("second", Some("roadstead"), &["front"]));
    let mut reducer = listed(&objects);
    let outcome = reducer.apply(Kind::Ingress, Observation::Deleted(key(Kind::Ingress, "web")));
    assert_eq!(outcome.changes, [deleted(Kind::Ingress, "web")]);
    let outcome = reducer.apply(Kind::Ingress, Observation::Deleted(key(Kind::Ingress, "second")));
    let expected =
        [deleted(Kind::Ingress, "second"), deleted(Kind::Service, "front"), deleted(Kind::EndpointSlice, "front-1")];
    assert_eq!(outcome.changes, expected);
}

#[test]
fn an_ingress_that_changes_its_class_takes_its_services_along() {
    let mut reducer = listed(&shop());
    let outcome = reducer.apply(Kind::Ingress, seen(&ingress("web", Some("nginx"), &["front"])));
    assert_eq!(outcome.changes[0], deleted(Kind::Ingress, "web"));
    assert_eq!(reported(&reducer), ["IngressClass roadstead"]);
    assert!(outcome.ingresses.contains(&ObjectName::new("shop", "web")));
}

#[test]
fn a_slice_that_changes_its_service_follows_it() {
    let mut reducer = listed(&shop());
    let outcome = reducer.apply(Kind::EndpointSlice, seen(&slice("front-1", "back", 1)));
    assert_eq!(outcome.changes, [deleted(Kind::EndpointSlice, "front-1")]);
    let outcome = reducer.apply(Kind::EndpointSlice, seen(&slice("back-1", "front", 2)));
    assert_eq!(outcome.changes, [Change::Upsert(key(Kind::EndpointSlice, "back-1"))]);
}

#[test]
fn a_write_that_changes_only_the_status_is_no_change() {
    let mut reducer = listed(&shop());
    let written = with_meta(&ingress("web", Some("roadstead"), &["front"]), |meta| {
        meta.resource_version = "2".into();
        meta.generation = 2;
        meta.last_manager = "roadstead-agent".into();
    });
    assert_eq!(reducer.apply(Kind::Ingress, seen(&written)).changes, []);

    let recreated = with_meta(&written, |meta| meta.uid = "another".into());
    let outcome = reducer.apply(Kind::Ingress, seen(&recreated));
    assert_eq!(outcome.changes, [Change::Upsert(key(Kind::Ingress, "web"))], "a new uid is another object");
}

#[test]
fn what_a_complete_list_lacks_is_inferred_to_be_gone_with_all_it_needed() {
    let mut reducer = listed(&shop());
    let without: Vec<Object> = shop().into_iter().filter(|object| object.key() != key(Kind::Ingress, "web")).collect();
    let changes = list(&mut reducer, Kind::Ingress, &without);
    let expected =
        [inferred(Kind::Ingress, "web"), inferred(Kind::Service, "front"), inferred(Kind::EndpointSlice, "front-1")];
    assert_eq!(changes, expected);
}

#[test]
fn a_list_that_fails_half_way_removes_nothing() {
    let mut reducer = listed(&shop());
    for kind in Kind::ALL {
        assert_eq!(reducer.apply(kind, Observation::ListStarted).changes, []);
        assert_eq!(reducer.apply(kind, failed()).changes, []);
        assert_eq!(reducer.apply(kind, Observation::Listed).changes, [], "a list that failed cannot complete");
    }
    assert_eq!(reported(&reducer), OURS);
}

#[test]
fn a_failed_list_is_a_finding_until_one_succeeds() {
    let mut reducer = listed(&shop());
    let cluster: ClusterId = "eu".into();
    let before = reducer.findings_revision();
    reducer.apply(Kind::Service, Observation::ListStarted);
    reducer.apply(Kind::Service, failed());
    let findings = reducer.findings(&cluster);
    assert_eq!((findings.len(), findings[0].code, &findings[0].object), (1, Code::IncompleteSync, &None));
    assert!(findings[0].message.contains("Service") && findings[0].remedy == "grant it", "{findings:?}");
    assert_ne!(reducer.findings_revision(), before);
    list(&mut reducer, Kind::Service, &shop());
    assert_eq!(reducer.findings(&cluster), []);
}

#[test]
fn nothing_is_complete_before_the_kinds_that_decide_about_it() {
    let mut reducer = Reducer::default();
    for kind in [Kind::Secret, Kind::EndpointSlice, Kind::Service, Kind::Ingress] {
        list(&mut reducer, kind, &shop());
        assert!(Kind::ALL.iter().all(|kind| !reducer.complete(*kind)), "after {kind}");
    }
    list(&mut reducer, Kind::Node, &[]);
    assert!(reducer.complete(Kind::Node), "nobody decides about Nodes");
    list(&mut reducer, Kind::IngressClass, &shop());
    assert!(Kind::ALL.iter().all(|kind| reducer.complete(*kind)));
}

#[test]
fn a_kind_that_may_not_be_listed_blocks_only_itself_and_what_depends_on_it() {
    let mut reducer = Reducer::default();
    reducer.apply(Kind::Service, Observation::ListStarted);
    reducer.apply(Kind::Service, failed());
    assert!(!reducer.settled());
    for kind in [Kind::IngressClass, Kind::Ingress, Kind::EndpointSlice, Kind::Secret, Kind::Node] {
        list(&mut reducer, kind, &shop());
    }
    bookmarks(&mut reducer);
    assert!(reducer.settled());
    let complete: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| reducer.complete(*kind)).collect();
    assert_eq!(complete, [Kind::IngressClass, Kind::Ingress, Kind::Secret, Kind::Node]);
}

/// An API server that lost everything, each of whose watches ends and lists again in its own time.
#[test]
fn what_a_later_list_lacks_stays_until_its_declaring_kinds_were_heard_from_since() {
    let mut reducer = listed(&shop());
    reducer.apply(Kind::EndpointSlice, Observation::ListStarted);
    reducer.apply(Kind::Service, Observation::ListStarted);
    assert_eq!(finish_list(&mut reducer, Kind::EndpointSlice, &[]), []);
    assert_eq!(finish_list(&mut reducer, Kind::Service, &[]), []);
    assert_eq!(reported(&reducer), OURS);
    assert!(!reducer.complete(Kind::Service) && !reducer.complete(Kind::EndpointSlice));

    reducer.apply(Kind::Ingress, failed());
    reducer.apply(Kind::Ingress, Observation::ListStarted);
    let changed = reducer.apply(Kind::Ingress, seen(&ingress("web", Some("roadstead"), &["front", "back"])));
    assert_eq!(
        changed.changes,
        [Change::Upsert(key(Kind::Ingress, "web"))],
        "what a list names says nothing of the rest"
    );
    assert_eq!(
        reducer.apply(Kind::Ingress, Observation::Listed).changes,
        [inferred(Kind::Service, "front"), inferred(Kind::EndpointSlice, "front-1")],
    );
    assert!(Kind::ALL.iter().all(|kind| reducer.complete(*kind)));
}

/// A watch that is about to end may say something after others have ended and while they list.
#[test]
fn the_last_word_of_a_watch_that_ends_vouches_for_nothing() {
    let mut reducer = listed(&shop());
    reducer.apply(Kind::EndpointSlice, Observation::ListStarted);
    bookmarks(&mut reducer);
    assert_eq!(reducer.apply(Kind::EndpointSlice, Observation::Listed).changes, []);
    assert!(!reducer.complete(Kind::EndpointSlice));
    assert_eq!(list(&mut reducer, Kind::Ingress, &shop()), []);
    let changes = reducer.apply(Kind::Service, Observation::Bookmark).changes;
    assert_eq!(changes, [inferred(Kind::EndpointSlice, "front-1")]);
}

#[test]
fn a_live_watch_vouches_with_a_bookmark_or_a_change() {
    for says in [Observation::Bookmark, seen(&ingress("foreign", Some("nginx"), &["back"]))] {
        let mut reducer = listed(&shop());
        assert_eq!(list(&mut reducer, Kind::Service, &[]), []);
        assert_eq!(reducer.apply(Kind::Ingress, says).changes, [inferred(Kind::Service, "front")]);
    }
}

#[test]
fn slices_are_kept_while_services_were_not_heard_from_since() {
    let mut reducer = listed(&shop());
    assert_eq!(list(&mut reducer, Kind::EndpointSlice, &[]), []);
    assert_eq!(reducer.apply(Kind::Ingress, Observation::Bookmark).changes, []);
    let changes = reducer.apply(Kind::Service, Observation::Bookmark).changes;
    assert_eq!(changes, [inferred(Kind::EndpointSlice, "front-1")]);
}

#[test]
fn slices_are_kept_while_their_service_is() {
    let mut reducer = listed(&shop());
    assert_eq!(list(&mut reducer, Kind::EndpointSlice, &[]), []);
    assert_eq!(reducer.apply(Kind::Ingress, Observation::Bookmark).changes, []);
    assert_eq!(list(&mut reducer, Kind::Service, &[]), [], "a Service without slices would be one without endpoints");
    let changes = reducer.apply(Kind::Ingress, Observation::Bookmark).changes;
    assert_eq!(changes, [inferred(Kind::Service, "front"), inferred(Kind::EndpointSlice, "front-1")]);
}

#[test]
fn an_object_that_a_list_lacked_and_that_comes_back_was_never_gone() {
    let mut reducer = listed(&shop());
    list(&mut reducer, Kind::Service, &[]);
    assert_eq!(reducer.apply(Kind::Service, seen(&service("front"))).changes, []);
    assert_eq!(bookmarks(&mut reducer), []);
    assert_eq!(reported(&reducer), OURS);
}

#[test]
fn while_ingresses_are_not_all_known_their_services_are_kept() {
    let mut reducer = Reducer::default();
    list(&mut reducer, Kind::IngressClass, &shop());
    list(&mut reducer, Kind::Service, &shop());
    reducer.apply(Kind::Ingress, Observation::ListStarted);
    reducer.apply(Kind::Ingress, seen(&ingress("web", Some("roadstead"), &["front"])));
    // Another Ingress, not listed yet, may refer to the Service that this one no longer does.
    let outcome = reducer.apply(Kind::Ingress, seen(&ingress("web", Some("roadstead"), &[])));
    assert_eq!(outcome.changes, [Change::Upsert(key(Kind::Ingress, "web"))]);
    let outcome = reducer.apply(Kind::Ingress, Observation::Listed);
    assert_eq!(outcome.changes, [inferred(Kind::Service, "front")]);
}

#[test]
fn an_object_that_became_unreadable_stays_as_it_was() {
    let mut reducer = listed(&shop());
    let cluster: ClusterId = "eu".into();
    reducer.apply(Kind::Ingress, Observation::ListStarted);
    reducer.apply(Kind::Ingress, unreadable(Some(key(Kind::Ingress, "web"))));
    reducer.apply(Kind::Ingress, seen(&ingress("foreign", Some("nginx"), &["back"])));
    assert_eq!(reducer.apply(Kind::Ingress, Observation::Listed).changes, []);
    assert_eq!(reported(&reducer), OURS);
    assert_eq!(reducer.findings(&cluster)[0].code, Code::MalformedObject);

    let outcome = reducer.apply(Kind::Ingress, Observation::Deleted(key(Kind::Ingress, "web")));
    assert!(outcome.changes.contains(&deleted(Kind::Ingress, "web")));
    assert_eq!(reducer.findings(&cluster), []);
}

#[test]
fn an_object_never_read_is_retained_and_its_deletion_told() {
    let mut reducer = Reducer::default();
    list(&mut reducer, Kind::IngressClass, &shop());
    reducer.apply(Kind::Ingress, Observation::ListStarted);
    reducer.apply(Kind::Ingress, unreadable(Some(key(Kind::Ingress, "web"))));
    reducer.apply(Kind::Ingress, Observation::Listed);
    assert!(reducer.complete(Kind::Ingress) && reducer.reported().retains(&key(Kind::Ingress, "web")));
    assert_eq!(reducer.uid(&key(Kind::Ingress, "web")), Some("uid-unreadable"), "an Event can be attached");
    let outcome = reducer.apply(Kind::Ingress, Observation::Deleted(key(Kind::Ingress, "web")));
    assert_eq!(outcome.changes, [deleted(Kind::Ingress, "web")]);
    assert!(!reducer.reported().retains(&key(Kind::Ingress, "web")));
}

#[test]
fn a_list_with_a_nameless_object_prunes_nothing() {
    let mut reducer = listed(&shop());
    reducer.apply(Kind::Ingress, Observation::ListStarted);
    reducer.apply(Kind::Ingress, unreadable(None));
    assert_eq!(reducer.apply(Kind::Ingress, Observation::Listed).changes, []);
    assert_eq!(reported(&reducer), OURS);
    assert_eq!(reducer.findings(&"eu".into()).len(), 1);
}

#[test]
fn while_classes_cannot_be_listed_an_ingress_of_an_unknown_class_stays() {
    for then in [failed(), Observation::ListStarted] {
        let mut reducer = listed(&shop());
        reducer.apply(Kind::IngressClass, Observation::ListStarted);
        reducer.apply(Kind::IngressClass, then);
        let moved = ingress("web", Some("new"), &["front"]);
        assert_eq!(reducer.apply(Kind::Ingress, seen(&moved)).changes, []);
        assert_eq!(reported(&reducer), OURS);

        let mut objects = shop();
        objects.push(class("new", CONTROLLER_NAME));
        let changes = list(&mut reducer, Kind::IngressClass, &objects);
        assert!(changes.contains(&Change::Upsert(key(Kind::Ingress, "web"))), "{changes:?}");
    }
}

#[test]
fn an_ingress_of_a_class_as_new_as_itself_is_reported_all_the_time() {
    let mut reducer = listed(&shop());
    let moved = ingress("web", Some("new"), &["front"]);
    assert_eq!(reducer.apply(Kind::Ingress, seen(&moved)).changes, []);
    let changes = reducer.apply(Kind::IngressClass, seen(&class("new", CONTROLLER_NAME))).changes;
    let expected = [Change::Upsert(key(Kind::IngressClass, "new")), Change::Upsert(key(Kind::Ingress, "web"))];
    assert_eq!(changes, expected);
}

#[test]
fn an_ingress_of_a_class_that_does_not_exist_is_gone_once_classes_were_heard_from() {
    let mut reducer = listed(&shop());
    reducer.apply(Kind::Ingress, seen(&ingress("web", Some("none"), &["front"])));
    assert_eq!(reported(&reducer), OURS);
    let changes = reducer.apply(Kind::IngressClass, Observation::Bookmark).changes;
    assert_eq!(changes[0], deleted(Kind::Ingress, "web"));
    assert_eq!(reported(&reducer), ["IngressClass roadstead"]);
}

#[test]
fn an_unreadable_class_keeps_its_ingresses() {
    let mut reducer = Reducer::default();
    reducer.apply(Kind::IngressClass, Observation::ListStarted);
    reducer.apply(Kind::IngressClass, unreadable(Some(key(Kind::IngressClass, "roadstead"))));
    reducer.apply(Kind::IngressClass, Observation::Listed);
    for kind in [Kind::Ingress, Kind::Service, Kind::EndpointSlice] {
        list(&mut reducer, kind, &shop());
        assert!(!reducer.complete(kind), "{kind} must not be pruned: its class may be ours");
    }
    reducer.apply(Kind::IngressClass, seen(&our_class()));
    assert_eq!(reported(&reducer), OURS);
    bookmarks(&mut reducer);
    assert!(reducer.complete(Kind::EndpointSlice));
}

#[test]
fn an_object_beyond_the_limit_is_a_finding_and_stays_as_it_was() {
    let mut reducer = listed(&shop());
    let huge = "x".repeat(OBJECT_BYTES_MAX);
    let outcome = reducer.apply(Kind::Ingress, seen(&ingress("web", Some("roadstead"), &["front", &huge])));
    assert_eq!(outcome.changes, []);
    assert!(reducer.reported().retains(&key(Kind::Ingress, "web")));
    assert_eq!(reducer.findings(&"eu".into())[0].code, Code::ObjectTooLarge);

    let outcome = reducer.apply(Kind::Ingress, seen(&ingress("web", Some("roadstead"), &["front", "back"])));
    assert!(outcome.changes.contains(&Change::Upsert(key(Kind::Ingress, "web"))));
    assert_eq!(reducer.findings(&"eu".into()), []);
}

#[test]
fn problems_within_reported_objects_are_findings_and_those_of_others_are_not() {
    let mut reducer = listed(&shop());
    let flawed = |name: &str| {
        let Observation::Seen(mut sighting) = seen(&service(name)) else { panic!("a service is readable") };
        let Observation::Unreadable(flaw) = unreadable(Some(key(Kind::Service, name))) else {
            panic!("never readable")
        };
        sighting.converted.problems.push(flaw.problem);
        Observation::Seen(sighting)
    };
    reducer.apply(Kind::Service, flawed("back"));
    assert_eq!(reducer.findings(&"eu".into()), []);
    reducer.apply(Kind::Service, flawed("front"));
    assert_eq!(reducer.findings(&"eu".into()).len(), 1);
    reducer.apply(Kind::Service, seen(&service("front")));
    assert_eq!(reducer.findings(&"eu".into()), []);
}
