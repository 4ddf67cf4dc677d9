//! Who has to say who they are, and that nobody passes when that cannot be found out.

use std::net::SocketAddr;
use std::time::Duration;

use roadstead_edge::proxy::Config;
use roadstead_edge::upstream::NamePolicy;
use roadstead_edge::users::Secret;
use roadstead_routing::id::ObjectName;
use roadstead_routing::settings::{Access, BasicAuth, ClientSettings, ExternalAuth, UsersForm};
use roadstead_routing::table::SecretId;
use tokio::net::TcpListener;

use crate::support::{Act, Client, Edge, Pod, get, get_with};

const HOST: &str = "a.example.com";

fn auth(server: SocketAddr) -> ExternalAuth {
    let response_headers = vec!["x-user".into(), "x-groups".into()];
    ExternalAuth { url: format!("http://{server}/check?a=b").into(), method: None, signin: None, response_headers }
}

/// An edge whose only route asks `auth`, and the route's pod.
async fn asking(auth: ExternalAuth) -> (Edge, Pod) {
    let (authentication_timeout, names) = (Duration::from_secs(1), NamePolicy::Anywhere);
    let edge = Edge::start_with(Config { authentication_timeout, names, ..Config::default() });
    with_access(edge, Access { external: vec![auth], ..Access::default() }).await
}

async fn with_access(mut edge: Edge, access: Access) -> (Edge, Pod) {
    let pod = Pod::saying("secret").await;
    edge.serve_client(HOST, &pod, ClientSettings { access, ..ClientSettings::default() });
    (edge, pod)
}

fn reply(status: &str, fields: &str) -> Act {
    Act::Reply(format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: 2\r\n\r\nok").into_bytes())
}

#[tokio::test]
async fn who_the_server_lets_pass_comes_with_what_it_says_about_them() {
    let server = Pod::start(|_| reply("202", "X-User: anna\r\nX-User: a\r\nX-Other: 1\r\n")).await;
    let (edge, pod) = asking(auth(server.address)).await;
    let request = format!(
        "POST /x?y=1 HTTP/1.1\r\nHost: {HOST}\r\nCookie: session=1\r\nX-User: root\r\nX-Groups: all\r\nX_User: root\r\n\
         X-Original-URL: http://evil/\r\nContent-Length: 4\r\n\r\nbody"
    );
    for _ in 0..2 {
        assert_eq!(Client::connect(edge.address).await.send(&request).await.text(), "secret");
    }
    let asked = server.requests();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|one| one.body.is_empty()), "the body is not the server's");
    let asked = &asked[0];
    assert_eq!(asked.line(), "GET /check?a=b HTTP/1.1");
    let server = server.address.to_string();
    for (name, value) in [
        ("host", server.as_str()),
        ("cookie", "session=1"),
        ("x-original-url", "http://a.example.com/x?y=1"),
        ("x-original-method", "POST"),
        ("x-auth-request-redirect", "/x?y=1"),
        ("x-real-ip", "127.0.0.1"),
    ] {
        assert_eq!(asked.header(name), [value], "{name}");
    }
    let seen = pod.requests().remove(0);
    assert_eq!((seen.header("x-user"), seen.body.as_slice()), (vec!["anna", "a"], b"body".as_slice()));
    assert!(seen.header("x-groups").is_empty(), "a client cannot say what the server does not");
    assert!(seen.header("x-other").is_empty() && seen.header("x_user").is_empty());
}

#[tokio::test]
async fn who_the_server_refuses_is_told_why() {
    let server = Pod::start(|seen| match seen.header("x-original-method").as_slice() {
        ["GET"] => reply("401", "WWW-Authenticate: Bearer\r\n"),
        _ => reply("403", ""),
    })
    .await;
    let (mut edge, pod) = asking(auth(server.address)).await;
    let refused = get(edge.address, HOST, "/").await;
    assert_eq!((refused.status(), refused.header("www-authenticate")), (401, Some("Bearer")));
    let delete = format!("DELETE / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    assert_eq!(Client::connect(edge.address).await.send(&delete).await.status(), 403);
    let signin = ExternalAuth { signin: Some("https://login/start".into()), ..auth(server.address) };
    let access = Access { external: vec![signin], ..Access::default() };
    edge.serve_client(HOST, &pod, ClientSettings { access, ..ClientSettings::default() });
    let sent = get(edge.address, HOST, "/x").await;
    let location = "https://login/start?rd=http%3A%2F%2Fa.example.com%2Fx";
    assert_eq!((sent.status(), sent.header("location")), (302, Some(location)));
    assert_eq!(Client::connect(edge.address).await.send(&delete).await.status(), 403);
    assert!(pod.requests().is_empty());
}

#[tokio::test]
async fn without_an_answer_that_means_something_nobody_passes() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let acts: [fn() -> Act; 5] = [
        || reply("500", ""),
        || reply("302", "Location: /\r\n"),
        || Act::Hang,
        || Act::Close,
        || Act::ReplyAndClose(b"nonsense\r\n\r\n".to_vec()),
    ];
    let mut servers = vec![auth(dead)];
    let mut pods = Vec::new();
    for act in acts {
        let server = Pod::start(move |_| act()).await;
        servers.push(auth(server.address));
        pods.push(server);
    }
    for url in ["https://unknown.invalid/", "ftp://x/", "/check", "http://"] {
        servers.push(ExternalAuth { url: url.into(), ..auth(dead) });
    }
    for server in servers {
        let url = server.url.clone();
        let (edge, pod) = asking(server).await;
        assert_eq!(get(edge.address, HOST, "/").await.status(), 503, "{url}");
        assert!(pod.requests().is_empty(), "{url}");
    }
}

#[tokio::test]
async fn a_server_on_this_machine_is_not_asked() {
    let server = Pod::saying("ok").await;
    let access = Access { external: vec![auth(server.address)], ..Access::default() };
    let (edge, _pod) = with_access(Edge::start(), access).await;
    assert_eq!(get(edge.address, HOST, "/").await.status(), 503);
    assert!(server.requests().is_empty());
    assert_eq!(edge.metrics.requests_unauthenticated.get(), 1);
}

#[tokio::test]
async fn all_servers_must_agree() {
    let (yes, no) = (Pod::saying("ok").await, Pod::start(|_| reply("403", "")).await);
    let edge = Edge::start_with(Config { names: NamePolicy::Anywhere, ..Config::default() });
    let access = Access { external: vec![auth(yes.address), auth(no.address)], ..Access::default() };
    let (edge, _pod) = with_access(edge, access).await;
    assert_eq!(get(edge.address, HOST, "/").await.status(), 403);
}

#[tokio::test]
async fn every_server_is_asked_about_the_clients_request_and_all_are_heard() {
    let first = Pod::start(|_| reply("200", "X-User: anna\r\n")).await;
    let second = Pod::start(|_| reply("200", "X-Groups: staff\r\n")).await;
    let edge = Edge::start_with(Config { names: NamePolicy::Anywhere, ..Config::default() });
    let access = Access { external: vec![auth(first.address), auth(second.address)], ..Access::default() };
    let (edge, pod) = with_access(edge, access).await;
    assert_eq!(get_with(edge.address, HOST, "/", "X-Groups: all\r\n").await.status(), 200);
    let asked = second.requests().remove(0);
    assert!(asked.header("x-user").is_empty() && asked.header("x-groups") == ["all"]);
    let seen = pod.requests().remove(0);
    assert_eq!((seen.header("x-user"), seen.header("x-groups")), (vec!["anna"], vec!["staff"]));
    assert_eq!(edge.metrics.requests_unauthenticated.get(), 0);
}

#[tokio::test]
async fn passwords_are_asked_for_and_checked() {
    let config = Config::default();
    let users = config.users.clone();
    let secret = ObjectName::new("shop", "users");
    let basic =
        BasicAuth { realm: "the shop".into(), cluster: "eu".into(), secret: secret.clone(), form: UsersForm::File };
    let access = Access { basic: vec![basic], ..Access::default() };
    let (edge, pod) = with_access(Edge::start_with(config), access).await;
    let with = async |authorization: &str| {
        let field = format!("Authorization: {authorization}\r\n");
        get_with(edge.address, HOST, "/", if authorization.is_empty() { "" } else { &field }).await
    };
    // anna:secret
    const GOOD: &str = "Basic YW5uYTpzZWNyZXQ=";
    assert_eq!(with(GOOD).await.status(), 503, "no users are known yet");
    let file = b"anna:$apr1$r31abcde$SZEN.U5sWGGNcv9YsUrqI.\n".to_vec();
    let id = SecretId { cluster: "eu".into(), secret };
    users.put(&id, Some(Secret::from([("auth".to_owned(), file)])));
    assert_eq!(with(GOOD).await.text(), "secret");
    // anna:guess
    for bad in ["", "Basic YW5uYTpndWVzcw==", "Bearer x", "Basic ?"] {
        let refused = with(bad).await;
        assert_eq!((refused.status(), refused.header("www-authenticate")), (401, Some("Basic realm=\"the shop\"")));
    }
    users.put(&id, None);
    assert_eq!(with(GOOD).await.status(), 503);
    assert_eq!(pod.requests().len(), 1);
}
