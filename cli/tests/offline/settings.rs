//! What annotations, Secrets and the policy make of requests.

use serde_json::{Value, json};

use crate::run::{CLASS, cluster, folder, ingress, repository, roadstead, service};

/// An Ingress with annotations, as `name: value` lines without the prefix.
fn annotated(text: &str, annotations: &str) -> String {
    let lines: Vec<String> = annotations
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| format!("nginx.ingress.kubernetes.io/{name}: '{value}'"))
        .collect();
    text.replace(
        ", namespace: shop}\nspec",
        &format!(", namespace: shop, annotations: {{{}}}}}\nspec", lines.join(", ")),
    )
}

/// Answers of one cluster with these manifests under this policy, if any.
fn answers(manifests: &[String], policy: Option<&str>, requests: &[Value]) -> Vec<Value> {
    let files = folder(&[("all.yaml", &format!("{CLASS}{}", manifests.concat())), ("policy/p", policy.unwrap_or(""))]);
    let file = files.path().join("policy/p").display().to_string();
    let id = cluster("eu", &files);
    let mut words = vec!["explain", "--manifests", &id, "--batch"];
    if policy.is_some() {
        words.extend(["--policy", &file]);
    }
    let input: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let said = roadstead(&words, &input);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    said.lines()
}

fn get(host: &str, path: &str) -> Value {
    json!({"host": host, "path": path})
}

fn has_rule(answer: &Value, rule: &str) -> bool {
    answer["why"].as_array().unwrap().iter().any(|step| step["rule"] == rule)
}

#[test]
fn a_canary_takes_what_its_header_cookie_or_weight_give_it() {
    let main = ingress("main", "a.example.com", "Prefix / web");
    let canary = annotated(
        &ingress("canary", "a.example.com", "Prefix / next"),
        "canary: true\ncanary-by-header: X-Canary\ncanary-by-cookie: try\ncanary-weight: 10",
    );
    let manifests = [main, canary, service("web", &["10.0.0.1"]), service("next", &["10.0.0.2"])];
    let with = |headers: Value| json!({"host": "a.example.com", "path": "/", "headers": headers});
    let requests = [
        with(json!({"x-canary": "always"})),
        with(json!({"X-Canary": "never", "Cookie": "try=always"})),
        with(json!({"Cookie": "a=b; try=always"})),
        with(json!({})),
    ];
    let answers = answers(&manifests, None, &requests);
    let services = |answer: &Value| -> Vec<(String, u64)> {
        let all = answer["backends"].as_array().unwrap().iter();
        all.map(|it| (it["service"].as_str().unwrap().to_owned(), it["weight"].as_u64().unwrap())).collect()
    };
    let one = |name: &str| vec![(name.to_owned(), 100)];
    assert_eq!(answers[..3].iter().map(services).collect::<Vec<_>>(), [one("next"), one("web"), one("next")]);
    assert_eq!(services(&answers[3]), [("next".to_owned(), 1), ("web".to_owned(), 9)]);
    assert!(has_rule(&answers[0], "C-1") && has_rule(&answers[3], "C-3"));
    assert!(answers.iter().all(|answer| answer["route"]["ingress"]["name"] == "main"));
}

#[test]
fn what_settings_answer_asks_no_backend() {
    let cases = [
        ("force-ssl-redirect: true", "/", 308, "L-6"),
        ("permanent-redirect: https://b.example.com/", "/x", 301, "d-16"),
        ("app-root: /app", "/", 302, "d-15"),
        ("app-root: /app", "/x", 200, "P-3"),
        ("auth-type: digest\nauth-secret: users", "/", 403, "N-6"),
        ("auth-type: basic\nauth-secret: users", "/", 503, "N-6"),
        ("whitelist-source-range: 10.0.0.0/8", "/", 200, "d-7"),
        ("auth-url: https://login.example.com/", "/", 200, "d-13"),
        ("limit-rps: 5", "/", 200, "d-19"),
    ];
    for (annotations, path, status, rule) in cases {
        let text = annotated(&ingress("a", "a.example.com", "Prefix / web"), annotations);
        let answer = answers(&[text, service("web", &["10.0.0.1"])], None, &[get("a.example.com", path)]).remove(0);
        assert_eq!(answer["status"], status, "{annotations}: {answer}");
        assert_eq!(answer["backends"].as_array().unwrap().is_empty(), status != 200, "{annotations}");
        assert!(has_rule(&answer, rule), "{annotations}: {answer}");
    }
}

#[test]
fn a_password_is_asked_for_and_a_preflight_answered() {
    let users =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: users, namespace: shop}\nstringData: {auth: 'a:b'}\n";
    let text = annotated(&ingress("a", "a.example.com", "Prefix / web"), "auth-type: basic\nauth-secret: users");
    let cors = annotated(&ingress("b", "b.example.com", "Prefix / web"), "enable-cors: true");
    let manifests = [text, cors, users.to_owned(), service("web", &["10.0.0.1"])];
    let options =
        json!({"host": "b.example.com", "path": "/", "method": "OPTIONS", "headers": {"Origin": "https://c"}});
    let with_password = json!({"host": "a.example.com", "path": "/", "headers": {"Authorization": "Basic eDp5"}});
    let requests = [get("a.example.com", "/"), with_password, options, get("b.example.com", "/")];
    let answers = answers(&manifests, None, &requests);
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [401, 200, 204, 200]);
}

#[test]
fn a_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let file = repository().join("examples/ingress-nginx/wildcard.yaml");
    let class =
        std::fs::read_to_string(file).unwrap().replace("ingressClassName: nginx", "ingressClassName: roadstead");
    let secure = |sni: &str| json!({"host": "x.preview.example.com", "path": "/", "sni": sni});
    let requests = [secure("x.preview.example.com"), secure("other.example.com"), get("x.preview.example.com", "/")];
    let answers = answers(&[format!("---\n{class}")], None, &requests);
    assert_eq!(answers[0]["certificate"], "eu/preview/preview-tls");
    assert!(answers[1]["certificate"].is_null() && has_rule(&answers[1], "L-1"));
    assert!(answers[2]["certificate"].is_null() && !has_rule(&answers[2], "L-1"));
    assert_eq!(answers.iter().map(|it| it["status"].as_u64().unwrap()).collect::<Vec<_>>(), [503, 503, 308]);
}

#[test]
fn patterns_are_shown_as_written_whatever_the_class_makes_of_paths() {
    let patterns = annotated(
        &ingress("a", "a.example.com", "ImplementationSpecific /v[0-9]+ web\nExact /Status web"),
        "use-regex: true",
    );
    let manifests = [patterns, service("web", &["10.0.0.1"])];
    let requests =
        [get("a.example.com", "/V7/x"), get("a.example.com", "/status/more"), get("a.example.com", "/Status")];
    let routes = |policy| -> Vec<(String, String)> {
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        let answers = answers(&manifests, policy, &requests);
        answers.iter().map(|it| (text(&it["route"]["type"]), text(&it["route"]["path"]))).collect()
    };
    let row = |kind: &str, path: &str| (kind.to_owned(), path.to_owned());
    let pattern = row("ImplementationSpecific", "/v[0-9]+");
    assert_eq!(routes(None), [pattern.clone(), row("", ""), row("Exact", "/Status")]);
    let compat = "
pools: {default: {kind: edge}}
classes: {roadstead: {pool: default, mode: nginx-compat}}
";
    let status = row("ImplementationSpecific", "/Status");
    assert_eq!(routes(Some(compat)), [pattern, status.clone(), status]);
}

#[test]
fn a_grant_keeps_others_away_and_the_answer_says_so() {
    let policy = "
pools: {default: {kind: edge}}
classes: {roadstead: {pool: default}}
grants: [{hosts: [pay.example.com], namespaces: [payments]}]
";
    let manifests = [ingress("a", "pay.example.com", "Prefix / web"), service("web", &["10.0.0.1"])];
    let answer = answers(&manifests, Some(policy), &[get("pay.example.com", "/")]).remove(0);
    assert_eq!((&answer["status"], &answer["route"]), (&json!(404), &Value::Null));
    assert!(has_rule(&answer, "M-8"), "{answer}");
}

#[test]
fn with_failover_only_the_first_that_can_answer_are_asked() {
    let policy = "
clusters: {eu: {priority: 0, region: europe}, us: {priority: 1, region: america}}
pools: {default: {kind: edge}}
classes: {roadstead: {pool: default}}
defaults: {strategy: STRATEGY}
";
    let one = |pods: &[&str]| [CLASS, &ingress("a", "a.example.com", "Prefix / web"), &service("web", pods)].concat();
    let asked = |eu: &[&str], strategy: &str, more: &[&str]| -> Vec<String> {
        let files = folder(&[
            ("eu/a.yaml", &one(eu)),
            ("us/a.yaml", &one(&["10.1.0.1"])),
            ("p", &policy.replace("STRATEGY", strategy)),
        ]);
        let path = |name: &str| files.path().join(name).display().to_string();
        let [eu, us] = ["eu", "us"].map(|id| format!("{id}={}", path(id)));
        let file = path("p");
        let words =
            ["explain", "--json", "--manifests", &eu, "--manifests", &us, "--policy", &file, "http://a.example.com/"];
        let answer = roadstead(&[&words, more].concat(), "").json();
        let all = answer["backends"].as_array().unwrap().iter();
        all.map(|it| it["cluster"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(asked(&["10.0.0.1"], "failover", &[]), ["eu"]);
    assert_eq!(asked(&[], "failover", &[]), ["us"]);
    assert_eq!(asked(&["10.0.0.1"], "nearest", &["--region", "america"]), ["us"]);
    assert_eq!(asked(&["10.0.0.1"], "nearest", &[]), ["eu", "us"]);
    assert_eq!(asked(&["10.0.0.1"], "spread", &[]), ["eu", "us"]);
}

#[test]
fn who_answers_while_nobody_can_is_said() {
    let asked = |annotations: &str| annotated(&ingress("web", "a.example.com", "Prefix / web"), annotations);
    let services = [service("web", &[]), service("sorry", &["10.0.0.9"])];
    let answer = |annotations: &str| {
        let manifests: Vec<String> = [asked(annotations)].into_iter().chain(services.clone()).collect();
        answers(&manifests, None, &[get("a.example.com", "/")]).remove(0)
    };
    let fallback = answer("default-backend: sorry");
    assert_eq!((&fallback["status"], &fallback["backends"][0]["service"]), (&json!(200), &json!("sorry")));
    assert!(has_rule(&fallback, "d-27"), "{fallback}");
    let down = answer("all-down: https://status.example.com/");
    assert_eq!((&down["status"], has_rule(&down, "E-2")), (&json!(302), true), "{down}");
    assert_eq!(answer("server-alias: b.example.com")["status"], 503);
}

#[test]
fn how_an_edge_gets_there_depends_on_its_pool_and_is_said() {
    let policy = "clusters: {eu: {reach_from: [{pool: internal, reach: node-port}]}}
pools: {public: {kind: edge, default: true}, internal: {kind: edge}}
classes: {roadstead: {pool: public}, inner: {pool: internal}}";
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus:\n  conditions: [{type: Ready, status: 'True'}]\n  \
                addresses: [{type: InternalIP, address: 10.1.0.1}]\n";
    let port = "[{port: 80, nodePort: 30080}]";
    let web =
        service("web", &["10.0.0.1"]).replace("{ports: [{port: 80}]}", &format!("{{type: NodePort, ports: {port}}}"));
    let inner = ingress("inner", "b.example.com", "Prefix / web")
        .replace("ingressClassName: roadstead", "ingressClassName: inner");
    let class = CLASS.replace("name: roadstead", "name: inner");
    let manifests =
        [ingress("web", "a.example.com", "Prefix / web"), inner, web, node.to_owned(), format!("---\n{class}")];
    let inside = json!({"host": "b.example.com", "path": "/", "pool": "internal"});
    let answers = answers(&manifests, Some(policy), &[get("a.example.com", "/"), inside]);
    let endpoints = |answer: &Value| answer["backends"][0]["endpoints"].clone();
    assert_eq!(endpoints(&answers[0]), json!(["10.0.0.1:8080"]));
    assert_eq!((endpoints(&answers[1]), has_rule(&answers[1], "R-1")), (json!(["10.1.0.1:30080"]), true));
}

#[test]
fn a_certificate_of_the_client_is_asked_for_over_https_alone() {
    let web = annotated(&ingress("web", "a.example.com", "Prefix / web"), "auth-tls-secret: ca");
    let ca = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: ca, namespace: shop}\nstringData: {ca.crt: x}\n";
    let with = [web.clone(), service("web", &["10.0.0.1"]), ca.to_owned()];
    let without = [web, service("web", &["10.0.0.1"])];
    let secure = json!({"host": "a.example.com", "path": "/", "sni": "a.example.com"});
    let [plain, asked] =
        <[Value; 2]>::try_from(answers(&with, None, &[get("a.example.com", "/"), secure.clone()])).unwrap();
    assert_eq!((&plain["status"], &asked["status"]), (&json!(400), &json!(200)));
    assert!(has_rule(&asked, "d-25"), "{asked}");
    assert_eq!(answers(&without, None, &[secure])[0]["status"], 503);
}
