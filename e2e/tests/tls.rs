//! Certificates from Secrets to the client's handshake, and private keys nowhere else.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context;
use roadstead_e2e::site::{POLICY, Plan, SENT_MIN, Site, WITHIN};
use roadstead_e2e::until;
use roadstead_testkit::https::{Authority, Certificate, Connection, shown};
use serde_json::json;
use tokio::task::JoinSet;

const HOST: &str = "shop.example.com";
const OTHER: &str = "other.example.com";
const SECRET: &str = "shop-tls";
/// Clients of a flow, each with one connection at a time.
const CLIENTS: usize = 8;
/// Requests on one connection before the next.
const REQUESTS_EACH: usize = 5;

/// Where the keys of controllers and edges are, outside of everything that they write.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        for name in ["secrets.key", "last-good.key"] {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("{:064x}\n", 7))?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        }
        Ok(Self(folder))
    }

    fn flag(&self, flag: &str, name: &str) -> [String; 2] {
        [flag.to_owned(), self.0.path().join(name).display().to_string()]
    }

    fn given_to(&self, mut plan: Plan) -> Plan {
        plan.controller_args.extend(self.flag("--secrets-key-file", "secrets.key"));
        for edge in &mut plan.edges {
            edge.args.extend(self.flag("--last-good-key-file", "last-good.key"));
        }
        plan
    }
}

/// One host with a certificate, which its edges show.
async fn secured(plan: Plan) -> anyhow::Result<(Site, Certificate)> {
    let mut site = plan.start().await?;
    let certificate = Certificate::for_names(&[HOST])?;
    let eu = site.cluster("eu");
    eu.certificate(SECRET, &certificate)?;
    eu.serve(HOST, "web", 2).await?;
    eu.secure_ingress("web", HOST, SECRET)?;
    site.answers(HOST, 308).await?;
    for index in 0..site.system.edges().len() {
        shows(site.secure_edge(index), HOST, &certificate).await?;
    }
    Ok((site, certificate))
}

async fn shows(edge: SocketAddr, host: &str, certificate: &Certificate) -> anyhow::Result<()> {
    let what = format!("{host} shows its certificate");
    until(WITHIN, &what, async || shown(edge, host).await.is_ok_and(|it| it == certificate.der)).await
}

/// Requests over HTTPS that are never tried again: some connections are new, most are used again.
struct SecureFlow {
    counts: Arc<Counts>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

impl SecureFlow {
    fn start(edge: SocketAddr) -> Self {
        let counts = Arc::<Counts>::default();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let counts = counts.clone();
            clients.spawn(async move {
                while !counts.stop.load(Ordering::Relaxed) {
                    converse(edge, &counts).await;
                }
            });
        }
        Self { counts, clients }
    }

    async fn more(&self, requests: u64) -> anyhow::Result<()> {
        let sent = || self.counts.sent.load(Ordering::Relaxed);
        let wanted = sent() + requests;
        until(WITHIN, &format!("{wanted} requests are sent"), async || sent() >= wanted).await
    }

    #[expect(clippy::print_stdout, reason = "what every test with requests reports")]
    async fn stop_clean(mut self) -> anyhow::Result<()> {
        self.more(SENT_MIN).await?;
        self.counts.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended?;
        }
        let (sent, failed) = (self.counts.sent.load(Ordering::Relaxed), self.counts.failed.load(Ordering::Relaxed));
        println!("sent {sent}, failed {failed}");
        anyhow::ensure!(failed == 0, "sent {sent}, failed {failed}");
        Ok(())
    }
}

async fn converse(edge: SocketAddr, counts: &Counts) {
    let mut connection = Connection::open(edge, HOST).await;
    for _ in 0..REQUESTS_EACH {
        counts.sent.fetch_add(1, Ordering::Relaxed);
        let answered = match &mut connection {
            Ok(connection) => connection.get().await.is_ok_and(|status| status == 200),
            Err(_) => false,
        };
        if !answered {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_may_have_a_certificate_of_its_own_for_all_other_names() -> anyhow::Result<()> {
    let named = format!("{POLICY}clusters: {{eu: {{weight: 100}}}}\n")
        .replace("default: true}", "default: true, certificate: eu/shop/fallback-tls}");
    let plan = Plan { policy: named, ..Plan::new(&["eu"], 1).https() };
    let (mut site, certificate) = secured(plan).await?;
    let edge = site.secure_edge(0);
    site.has_finding("certificate-missing").await?;
    let fallback = Certificate::for_names(&["fallback.example.org"])?;
    site.cluster("eu").certificate("fallback-tls", &fallback)?;
    for name in ["nobody.test", "also.example.com"] {
        shows(edge, name, &fallback).await?;
    }
    shows(edge, HOST, &certificate).await?;
    until(WITHIN, "the finding is gone", async || !site.finding("certificate-missing").await).await?;
    let renewed = Certificate::for_names(&["fallback.example.org"])?;
    site.cluster("eu").certificate("fallback-tls", &renewed)?;
    shows(edge, "nobody.test", &renewed).await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_with_a_certificate_of_the_ingresss_authority_pass() -> anyhow::Result<()> {
    let (mut site, _) = secured(Plan::new(&["eu"], 1).https()).await?;
    let edge = site.secure_edge(0);
    let (authority, other) = (Authority::new("partners")?, Authority::new("others")?);
    let (ann, eve) = (authority.client("ann")?, other.client("eve")?);
    let status = async |own: Option<&(String, String)>| {
        let connection = match own {
            Some((chain, key)) => Connection::open_showing(edge, HOST, chain, key).await,
            None => Connection::open(edge, HOST).await,
        };
        connection?.get().await
    };
    anyhow::ensure!(status(None).await? == 200);
    let mut ingress = site.cluster("eu").api.get("ingresses", "shop", "web").context("the Ingress")?;
    let annotations = json!({"nginx.ingress.kubernetes.io/auth-tls-secret": "shop/partners-ca"});
    ingress["metadata"] = json!({"name": "web", "namespace": "shop", "annotations": annotations});
    site.cluster("eu").apply(ingress)?;
    until(WITHIN, "without the Secret nobody passes", async || {
        status(Some(&ann)).await.is_ok_and(|status| status == 503)
    })
    .await?;
    site.has_finding("access-secret-missing").await?;
    site.cluster("eu").apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "partners-ca", "namespace": "shop"},
        "stringData": {"ca.crt": authority.pem},
    }))?;
    until(WITHIN, "the partner passes", async || status(Some(&ann)).await.is_ok_and(|status| status == 200)).await?;
    anyhow::ensure!(status(Some(&eve)).await? == 400 && status(None).await? == 400);
    until(WITHIN, "the finding is gone", async || !site.finding("access-secret-missing").await).await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_decides_which_certificate_is_shown_and_a_missing_one_is_a_finding() -> anyhow::Result<()> {
    let (mut site, certificate) = secured(Plan::new(&["eu"], 1).https()).await?;
    let edge = site.secure_edge(0);
    let other = Certificate::for_names(&["*.example.com"])?;
    let eu = site.cluster("eu");
    eu.serve(OTHER, "other", 1).await?;
    eu.secure_ingress("other", OTHER, "other-tls")?;
    site.answers(OTHER, 308).await?;
    site.has_finding("certificate-missing").await?;
    let default = shown(edge, "nobody.test").await?;
    anyhow::ensure!(shown(edge, OTHER).await? == default, "without its Secret a host shows the default certificate");
    anyhow::ensure!(Connection::open(edge, OTHER).await?.get().await? == 200, "and is served all the same");

    site.cluster("eu").certificate("other-tls", &other)?;
    shows(edge, OTHER, &other).await?;
    shows(edge, HOST, &certificate).await?;
    until(WITHIN, "the finding is gone", async || !site.finding("certificate-missing").await).await?;
    site.alert(1, "secrets-not-stored").await?;
    site.system.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_under_load_and_nobody_notices() -> anyhow::Result<()> {
    let (mut site, _) = secured(Plan::new(&["eu"], 2).two_controllers().https()).await?;
    let edges = [0, 1].map(|index| site.secure_edge(index));
    let flows = edges.map(SecureFlow::start);
    for _ in 0..3 {
        let renewed = Certificate::for_names(&[HOST])?;
        site.cluster("eu").certificate(SECRET, &renewed)?;
        for (edge, flow) in edges.into_iter().zip(&flows) {
            shows(edge, HOST, &renewed).await?;
            flow.more(100).await?;
        }
    }
    for flow in flows {
        flow.stop_clean().await?;
    }
    site.system.stop().await;
    Ok(())
}

/// The cluster is away, so nobody reports the Secret again: what was sealed is all there is.
#[tokio::test(flavor = "multi_thread")]
async fn sealed_certificates_outlive_restarts_and_no_key_is_written_in_the_clear() -> anyhow::Result<()> {
    let keys = Keys::new()?;
    let (mut site, certificate) = secured(keys.given_to(Plan::new(&["eu"], 1).https())).await?;
    let edge = site.secure_edge(0);
    site.no_alert(1).await?;
    site.is_durable("eu").await?;
    site.system.agent("eu").kill().await;
    site.system.controller().restart().await?;
    site.system.controller().wait_ready(WITHIN).await?;
    site.system.edge(0).wait_ready(WITHIN).await?;
    anyhow::ensure!(shown(edge, HOST).await? == certificate.der, "after a restart of the controller");

    site.system.controller().terminate().await;
    let member = site.system.edge(0);
    member.restart().await?;
    until(WITHIN, "the edge lives", async || member.get("/livez").await.is_ok()).await?;
    shows(edge, HOST, &certificate).await?;

    no_key_is_in_the_clear(site, &certificate).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_nothing_of_a_secret_is_written_at_all() -> anyhow::Result<()> {
    let (mut site, certificate) = secured(Plan::new(&["eu"], 1).https()).await?;
    let edge = site.secure_edge(0);
    site.is_durable("eu").await?;
    site.system.controller().restart().await?;
    site.system.controller().wait_ready(WITHIN).await?;
    // The agent is there and reports again.
    shows(edge, HOST, &certificate).await?;

    site.system.controller().terminate().await;
    let member = site.system.edge(0);
    member.restart().await?;
    until(WITHIN, "the edge serves", async || member.get("/readyz").await.is_ok()).await?;
    anyhow::ensure!(shown(edge, HOST).await? != certificate.der, "alone, the edge has only the default certificate");
    let status = site.system.edge(0).get("/status").await?;
    anyhow::ensure!(status.contains("\"certificates_kept\":false"), "{status}");

    no_key_is_in_the_clear(site, &certificate).await
}

/// Neither on the edge's disk nor in the database, once both have ended.
async fn no_key_is_in_the_clear(mut site: Site, certificate: &Certificate) -> anyhow::Result<()> {
    let folders = [site.folder.path().to_owned(), site.system.postgres().folder().to_owned()];
    site.system.edge(0).terminate().await;
    site.system.postgres_mut().stop().await;
    let found = files_with(&folders, certificate)?;
    anyhow::ensure!(found.is_empty(), "the private key is in the clear in {found:?}");
    Ok(())
}

/// Files in which a line of the certificate's private key is.
fn files_with(folders: &[PathBuf], certificate: &Certificate) -> anyhow::Result<Vec<PathBuf>> {
    let lines: Vec<&str> = certificate.key_pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let line = lines.first().context("a key has lines")?.as_bytes();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type()))?;
            match kind? {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() && holds(&path, line)? => found.push(path),
                _ => {}
            }
        }
    }
    Ok(found)
}

fn holds(path: &Path, line: &[u8]) -> anyhow::Result<bool> {
    let content = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(content.windows(line.len()).any(|part| part == line))
}
