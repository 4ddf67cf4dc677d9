//! Annotations that teams bring along, each over real HTTP: from the Ingress through agent and controller to the edge.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use roadstead_e2e::site::{Ask, Plan, Site, WITHIN};
use roadstead_e2e::until;
use serde_json::{Value, json};

const HOST: &str = "shop.example.com";

/// One cluster, two Services and one edge.
async fn shop() -> anyhow::Result<(Site, SocketAddr)> {
    let mut site = Site::start(&["eu"], 1).await?;
    for service in ["web", "next"] {
        site.cluster("eu").deploy(service, 3).await?;
    }
    let edge = site.edge(0);
    Ok((site, edge))
}

/// An Ingress of the host with these annotations and paths: path, its type, Service.
fn ingress(name: &str, annotations: &Value, paths: &[(&str, &str, &str)]) -> Value {
    let paths: Vec<Value> = paths
        .iter()
        .map(|(path, path_type, service)| {
            let backend = json!({"service": {"name": service, "port": {"number": 80}}});
            json!({"path": path, "pathType": path_type, "backend": backend})
        })
        .collect();
    let annotations: serde_json::Map<String, Value> = annotations
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (format!("nginx.ingress.kubernetes.io/{key}"), value.clone()))
        .collect();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "annotations": annotations},
        "spec": {"ingressClassName": "roadstead", "rules": [{"host": HOST, "http": {"paths": paths}}]},
    })
}

/// Everything of the host to `web`, with these annotations; waits until `is_set` says that they are obeyed.
async fn annotated(
    site: &mut Site,
    annotations: Value,
    is_set: impl AsyncFn(SocketAddr) -> bool,
) -> anyhow::Result<()> {
    site.cluster("eu").apply(ingress("web", &annotations, &[("/", "Prefix", "web")]))?;
    let edge = site.edge(0);
    until(WITHIN, "the edge obeys the annotations", async || is_set(edge).await).await
}

async fn status(edge: SocketAddr, target: &str) -> u16 {
    Ask::get(edge, HOST, target).send().await.map_or(0, |answer| answer.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_have_their_codes() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    let cases = [
        (json!({"permanent-redirect": "https://new.example.com/x"}), "/a", 301, "https://new.example.com/x"),
        (json!({"temporal-redirect": "https://soon.example.com"}), "/a", 302, "https://soon.example.com"),
        (json!({"app-root": "/app"}), "/", 302, "http://shop.example.com/app"),
        (json!({"force-ssl-redirect": "true"}), "/a?b=c", 308, "https://shop.example.com/a?b=c"),
    ];
    for (annotations, target, code, location) in cases {
        annotated(&mut site, annotations, async |edge| {
            let answer = Ask::get(edge, HOST, target).send().await;
            answer.is_ok_and(|answer| answer.status == code && answer.field("location") == location)
        })
        .await?;
    }
    site.cluster("eu").apply(ingress("web", &json!({"from-to-www-redirect": "true"}), &[("/", "Prefix", "web")]))?;
    let www = async || Ask::get(edge, "www.shop.example.com", "/a").send().await;
    until(WITHIN, "the www host redirects", async || www().await.is_ok_and(|it| it.status == 308)).await?;
    let location = www().await?.field("location").to_owned();
    anyhow::ensure!(location == "http://shop.example.com/a", "{location}");
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_can_serve_clients_are_told_what_the_policy_or_the_ingress_says() -> anyhow::Result<()> {
    let plan = Plan::new(&["eu"], 1).policy("defaults: {all_down: 'https://status.example.com/'}");
    let mut site = plan.start().await?;
    site.cluster("eu").deploy("web", 1).await?;
    annotated(&mut site, json!({}), async |edge| status(edge, "/").await == 200).await?;
    site.cluster("eu").publish("web", 0)?;
    site.answers(HOST, 302).await?;
    let answer = Ask::get(site.edge(0), HOST, "/x").send().await?;
    anyhow::ensure!(answer.field("location") == "https://status.example.com/", "{:?}", answer.fields);
    annotated(&mut site, json!({"all-down": "500"}), async |edge| status(edge, "/").await == 500).await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_service_answers_for_one_without_pods() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    let who = async |edge| Ask::get(edge, HOST, "/").send().await.map(|it| it.service().to_owned()).unwrap_or_default();
    annotated(&mut site, json!({"default-backend": "next"}), async |edge| who(edge).await == "web").await?;
    site.cluster("eu").publish("web", 0)?;
    until(WITHIN, "the other Service answers", async || who(edge).await == "next").await?;
    site.cluster("eu").publish("web", 1)?;
    until(WITHIN, "its own pods answer again", async || who(edge).await == "web").await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_the_ingress_names_are_added_to_every_response() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    let field = async || Ask::get(edge, HOST, "/").send().await.map(|it| it.field("x-frame-options").to_owned());
    let lines = json!({"response-headers": "X-Frame-Options: DENY\nReferrer-Policy: no-referrer"});
    annotated(&mut site, lines, async |_| field().await.is_ok_and(|it| it == "DENY")).await?;
    site.cluster("eu").publish("web", 0)?;
    site.answers(HOST, 503).await?;
    anyhow::ensure!(field().await? == "DENY", "the edge's own answers have it too");
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_may_be_weighed_by_its_endpoints() -> anyhow::Result<()> {
    let mut site = Plan::new(&["eu", "us"], 1).policy("defaults: {weigh_by_endpoints: true}").start().await?;
    for (cluster, pods) in [("eu", 4), ("us", 1)] {
        site.cluster(cluster).serve(HOST, "web", pods).await?;
    }
    let edge = site.edge(0);
    // Of 50 requests in turn every cluster gets its share, give or take one.
    let is_shared = async |eu: u32| {
        let mut answered = 0;
        for _ in 0..50 {
            let answer = Ask::get(edge, HOST, "/").send().await;
            answered += u32::from(answer.is_ok_and(|answer| answer.echo["cluster"] == "eu"));
        }
        answered.abs_diff(eu) <= 1
    };
    until(WITHIN, "four of five requests go to four pods", async || is_shared(40).await).await?;
    site.cluster("eu").publish("web", 1)?;
    until(WITHIN, "half of the requests go to one of two pods", async || is_shared(25).await).await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_rewritten_by_the_groups_of_their_pattern() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    let rewriting =
        json!({"rewrite-target": "/api/$2", "upstream-vhost": "internal.shop", "x-forwarded-prefix": "/v1"});
    let paths = [("/v1(/|$)(.*)", "ImplementationSpecific", "web")];
    site.cluster("eu").apply(ingress("web", &rewriting, &paths))?;
    until(WITHIN, "the route is there", async || status(edge, "/v1/x").await == 200).await?;
    let answer = Ask::get(edge, HOST, "/V1/items/7?q=1").send().await?;
    anyhow::ensure!(answer.echo["path"] == "/api/items/7?q=1", "{}", answer.echo);
    anyhow::ensure!(answer.echo["host"] == "internal.shop", "{}", answer.echo);
    anyhow::ensure!(answer.received("x-forwarded-prefix") == "/v1", "{}", answer.echo);
    anyhow::ensure!(status(edge, "/other").await == 404);
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_and_other_answers_carry_the_fields() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    let preflight = |origin: &str| {
        let ask = Ask::new(edge, "OPTIONS", HOST, "/").field("origin", origin);
        ask.field("access-control-request-method", "PUT")
    };
    let cors = json!({"enable-cors": "true", "cors-allow-origin": "https://*.example.com", "cors-max-age": "60"});
    annotated(&mut site, cors, async |_| {
        preflight("https://app.example.com").send().await.is_ok_and(|answer| answer.status == 204)
    })
    .await?;
    let answer = preflight("https://app.example.com").send().await?;
    anyhow::ensure!(answer.field("access-control-allow-origin") == "https://app.example.com");
    anyhow::ensure!(answer.field("access-control-allow-methods").contains("PUT"));
    anyhow::ensure!(answer.field("access-control-max-age") == "60");
    let plain = Ask::get(edge, HOST, "/").field("origin", "https://app.example.com").send().await?;
    anyhow::ensure!(plain.status == 200 && plain.field("access-control-allow-origin") == "https://app.example.com");
    let foreign = Ask::get(edge, HOST, "/").field("origin", "https://evil.example.org").send().await?;
    anyhow::ensure!(foreign.field("access-control-allow-origin").is_empty(), "{:?}", foreign.fields);
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_its_limit_is_refused() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    let send = async |bytes| Ask::new(edge, "POST", HOST, "/").body(bytes).send().await.map_or(0, |it| it.status);
    annotated(&mut site, json!({"proxy-body-size": "1k"}), async |_| send(1_025).await == 413).await?;
    anyhow::ensure!(send(1_024).await == 200, "a body of the limit passes");
    annotated(&mut site, json!({"proxy-body-size": "0"}), async |_| send(100_000).await == 200).await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentication_server_decides_and_its_silence_denies() -> anyhow::Result<()> {
    // Pods, which answer 200 to everything, stand in for an authentication server. They are on this machine, which edges
    // otherwise refuse to ask.
    let mut site = Plan::new(&["eu"], 1).edge_without("edge-names").start().await?;
    for service in ["web", "next"] {
        site.cluster("eu").deploy(service, 1).await?;
    }
    let (strict, edge) = (site.edge(0), site.edge(1));
    let by =
        |server: SocketAddr| json!({"auth-url": format!("http://{server}/check"), "auth-response-headers": "X-User"});
    let allowing = site.cluster("eu").pod("next", 0);
    annotated(&mut site, by(allowing), async |_| status(edge, "/").await == 200).await?;
    anyhow::ensure!(status(strict, "/").await == 503, "an edge asks whom it must not ask");
    let answer = Ask::get(edge, HOST, "/").field("x-user", "root").send().await?;
    anyhow::ensure!(answer.received("x-user").is_empty(), "the client may not speak for the server: {}", answer.echo);
    site.cluster("eu").kill_pod("next", 0).await;
    until(WITHIN, "nobody passes without the server", async || status(edge, "/").await == 503).await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_of_the_allowed_networks_pass() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    annotated(&mut site, json!({"whitelist-source-range": "10.0.0.0/8"}), async |edge| status(edge, "/").await == 403)
        .await?;
    let forged = Ask::get(edge, HOST, "/").field("x-forwarded-for", "10.1.2.3").send().await?;
    anyhow::ensure!(forged.status == 403, "a client that nobody trusts says where it comes from");
    annotated(&mut site, json!({"allowlist-source-range": "127.0.0.1"}), async |edge| status(edge, "/").await == 200)
        .await?;
    annotated(&mut site, json!({"allowlist-source-range": "rubbish"}), async |edge| status(edge, "/").await == 403)
        .await?;
    site.has_finding("invalid-annotation").await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_takes_requests_by_header_cookie_and_weight() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    site.cluster("eu").apply(ingress("web", &json!({}), &[("/", "Prefix", "web")]))?;
    let canary = json!({
        "canary": "true", "canary-by-header": "X-Next", "canary-by-cookie": "next", "canary-weight": "20",
    });
    site.cluster("eu").apply(ingress("next", &canary, &[("/", "Prefix", "next")]))?;
    let service = async |name: &str, value: &str| {
        let answer = Ask::get(edge, HOST, "/").field(name, value).send().await;
        answer.map(|it| it.service().to_owned()).unwrap_or_default()
    };
    until(WITHIN, "the canary takes part", async || service("x-next", "always").await == "next").await?;
    for _ in 0..20 {
        anyhow::ensure!(service("x-next", "always").await == "next" && service("x-next", "never").await == "web");
        anyhow::ensure!(service("cookie", "next=always").await == "next");
        anyhow::ensure!(service("cookie", "a=b; next=never").await == "web");
    }
    let mut taken = 0;
    for _ in 0..500 {
        taken += usize::from(service("x-other", "1").await == "next");
    }
    // Outside of it once in a billion runs.
    anyhow::ensure!((45..=165).contains(&taken), "{taken} of 500 for a weight of 20 of 100");
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_to_its_pod_by_a_cookie() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    let sticky = json!({"affinity": "cookie", "session-cookie-name": "route", "session-cookie-samesite": "Lax"});
    annotated(&mut site, sticky, async |edge| {
        Ask::get(edge, HOST, "/").send().await.is_ok_and(|it| it.field("set-cookie").starts_with("route="))
    })
    .await?;
    let mut pods = BTreeSet::new();
    for _ in 0..20 {
        let first = Ask::get(edge, HOST, "/").send().await?;
        let cookie = first.field("set-cookie").split(';').next().unwrap_or_default().to_owned();
        anyhow::ensure!(first.field("set-cookie").contains("SameSite=Lax"), "{}", first.field("set-cookie"));
        for _ in 0..5 {
            let again = Ask::get(edge, HOST, "/").field("cookie", &cookie).send().await?;
            anyhow::ensure!(again.echo["pod"] == first.echo["pod"], "{} then {}", first.echo["pod"], again.echo["pod"]);
        }
        pods.insert(first.echo["pod"].to_string());
    }
    anyhow::ensure!(pods.len() > 1, "all clients are at {pods:?}");
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_rate_are_refused() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    let limited = json!({"limit-rpm": "10", "limit-burst-multiplier": "1"});
    annotated(&mut site, limited, async |edge| status(edge, "/").await == 429).await?;
    let exempt = json!({"limit-rpm": "10", "limit-burst-multiplier": "1", "limit-whitelist": "127.0.0.0/8"});
    annotated(&mut site, exempt, async |edge| status(edge, "/").await == 200).await?;
    for _ in 0..30 {
        anyhow::ensure!(status(edge, "/").await == 200, "an exempt client is limited");
    }
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_effect_is_said_on_the_ingress() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    let refused = json!({"configuration-snippet": "return 200;", "proxy-body-size": "huge"});
    annotated(&mut site, refused, async |edge| status(edge, "/").await == 200).await?;
    site.has_finding("unsupported-annotation").await?;
    site.has_finding("invalid-annotation").await?;
    anyhow::ensure!(Ask::new(edge, "POST", HOST, "/").body(4_096).send().await?.status == 200);
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_granted_to_others_is_not_served() -> anyhow::Result<()> {
    let grants = "grants: [{hosts: [\"*.pay.example.com\"], namespaces: [payments]}]";
    let mut site = Plan::new(&["eu"], 1).policy(grants).start().await?;
    site.cluster("eu").serve("mine.example.com", "web", 1).await?;
    site.cluster("eu").ingress("theirs", "a.pay.example.com", "web")?;
    site.answers("mine.example.com", 200).await?;
    site.has_finding("host-not-granted").await?;
    site.answers("a.pay.example.com", 404).await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_users_of_the_secret_pass_and_without_it_nobody() -> anyhow::Result<()> {
    let (mut site, edge) = shop().await?;
    let basic = json!({"auth-type": "basic", "auth-secret": "users", "auth-realm": "Shop"});
    annotated(&mut site, basic, async |edge| status(edge, "/").await == 401).await?;
    let ask = async |credentials: &str| {
        let answer = Ask::get(edge, HOST, "/").field("authorization", &format!("Basic {credentials}")).send().await;
        answer.map_or(0, |answer| answer.status)
    };
    // ann:secret and ann:wrong
    let (good, bad) = ("YW5uOnNlY3JldA==", "YW5uOndyb25n");
    anyhow::ensure!(ask(good).await == 503, "without the Secret nobody can be known");
    let users = |hash: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "users", "namespace": "shop"},
            "stringData": {"auth": format!("ann:{hash}\n")},
        })
    };
    // `htpasswd -s`: the SHA-1 of "secret".
    site.cluster("eu").apply(users("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="))?;
    until(WITHIN, "the user passes", async || ask(good).await == 200).await?;
    anyhow::ensure!(ask(bad).await == 401);
    let refused = Ask::get(edge, HOST, "/").send().await?;
    anyhow::ensure!(refused.status == 401 && refused.field("www-authenticate") == "Basic realm=\"Shop\"");
    site.cluster("eu").apply(users("{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA="))?;
    until(WITHIN, "a changed password is followed", async || ask(good).await == 401).await?;
    site.system.stop().await;
    Ok(())
}
