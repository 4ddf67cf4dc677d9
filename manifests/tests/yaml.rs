//! Manifest files as people write them.

use roadstead_manifests::yaml::from_yaml;
use roadstead_routing::finding::Code;

fn keys(text: &str) -> Vec<String> {
    let show = |result: Result<roadstead_manifests::Converted, roadstead_manifests::Problem>| match result {
        Ok(converted) => converted.object.key().to_string(),
        Err(problem) => format!("{} {}", problem.code, problem.message),
    };
    from_yaml(text).into_iter().map(show).collect()
}

#[test]
fn documents_are_read_in_order_and_other_kinds_passed_over() {
    let text = "\
# a comment before anything
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: roadstead}
spec: {controller: roadstead.dev/ingress}
--- # the application
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
";
    assert_eq!(keys(text), ["IngressClass roadstead", "Service default/web"]);
}

#[test]
fn lists_are_opened() {
    let text = "\
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: a, namespace: x}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: x}}
- {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: c, namespace: x}, addressType: IPv4}
";
    assert_eq!(keys(text), ["Service x/a", "EndpointSlice x/c"]);
}

#[test]
fn a_document_that_is_no_yaml_names_its_line_and_hides_nothing() {
    let text = "\
apiVersion: v1
kind: Service
metadata: {name: a}
---
metadata: {name: [
---
apiVersion: v1
kind: Service
metadata: {name: c}
spec: 7
---
apiVersion: v1
kind: Service
metadata: {name: d}
";
    let results = from_yaml(text);
    let problem = results[1].as_ref().unwrap_err();
    assert_eq!((problem.code, &problem.object), (Code::MalformedObject, &None));
    assert!(problem.message.contains("begins at line 4"), "{}", problem.message);
    let shape = results[2].as_ref().unwrap_err();
    assert_eq!(shape.object.as_ref().unwrap().to_string(), "Service default/c");
    assert!(results[0].is_ok() && results[3].is_ok());
}

#[test]
fn an_empty_file_has_no_objects() {
    assert_eq!(keys(""), Vec::<String>::new());
    assert_eq!(keys("---\n# nothing\n---\n"), Vec::<String>::new());
}

#[test]
fn versions_that_kubernetes_has_removed_are_named_rather_than_passed_over() {
    let text = "\
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: old, namespace: x}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: new, namespace: x}
";
    let expected = "malformed-object Ingress x/old is of extensions/v1beta1, which is not read";
    assert_eq!(keys(text), [expected, "Ingress x/new"]);
}

#[test]
fn a_list_of_a_whole_cluster_is_read_whether_yaml_or_json() {
    const OBJECTS: usize = 20_000;
    let item = |index: usize| {
        format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {{\"name\": \"s{index}\", \"labels\": {{\"a\": \"b\"}}}}}}"
        )
    };
    let items: Vec<String> = (0..OBJECTS).map(item).collect();
    let json = format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n{}]}}", items.join(",\n"));
    let yaml = format!("apiVersion: v1\nkind: List\nitems:\n- {}\n", items.join("\n- "));
    for text in [json, yaml] {
        let results = from_yaml(&text);
        assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|it| it.is_err()));
        assert_eq!(results.len(), OBJECTS);
    }
}
