//! Wiring: flags → the last good table → listeners and workers → the controllers. Any task that ends, ends the process.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::builder::BoolishValueParser;
use ipnet::IpNet;
use prometheus_client::registry::Registry;
use roadstead_proto::identity::Identity;
use roadstead_proto::tls::{TlsFiles, TlsMaterial};
use roadstead_routing::endpoints::Locality;
use roadstead_routing::id::PoolName;
use roadstead_runtime::log::LogArgs;
use roadstead_runtime::ready::Readiness;
use roadstead_runtime::seal::SealKey;
use roadstead_runtime::{log, observe, stop};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::certificates::{self, Certificates};
use crate::health::Clock;
use crate::last_good::StateDir;
use crate::last_good::journal::{Journal, Replayed};
use crate::last_good::sealing::Sealing;
use crate::last_good::writer::{LastGood, Pace};
use crate::listen::{self, Shared, Tls, WORKERS_MAX, Workers};
use crate::observe::Metrics;
use crate::observe::access::AccessLog;
use crate::observe::status::SharedStatus;
use crate::proxy::{Config, Retries, TrustedProxies};
use crate::subscribe::client::{self, Controllers, Following, Reports};
use crate::subscribe::holdings::{Check, Holdings};
use crate::subscribe::machine::{Introduction, Machine};
use crate::table::{LiveTable, TableWriter};
use crate::unsafe_off::{Part, UnsafeOff};
use crate::upstream::NamePolicy;
use crate::users::Users;

/// The flags of `roadstead-edge`. Each can also be given as an environment variable.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "roadstead-edge", version, about = "Forwards HTTP requests to the pods of many clusters")]
pub struct Args {
    /// A controller's address, `https://HOST:PORT`. Give it several times for several replicas: they are tried in turn.
    #[arg(long, env = "ROADSTEAD_CONTROLLER", required = true, value_delimiter = ',', value_name = "URL")]
    pub controller: Vec<String>,
    /// The name to expect in the controller's certificate, where it is not the host of the address.
    #[arg(long, env = "ROADSTEAD_CONTROLLER_NAME", value_name = "NAME")]
    pub controller_name: Option<String>,
    /// The edge's certificate chain, PEM. Its identity `pool/NAME/edge/ID` says which pool this edge serves.
    #[arg(long, env = "ROADSTEAD_TLS_CERT", value_name = "FILE")]
    pub tls_cert: PathBuf,
    /// The private key of that certificate, PEM.
    #[arg(long, env = "ROADSTEAD_TLS_KEY", value_name = "FILE")]
    pub tls_key: PathBuf,
    /// The authority that signed the controller's certificate, PEM.
    #[arg(long, env = "ROADSTEAD_TLS_CA", value_name = "FILE")]
    pub tls_ca: PathBuf,
    /// Where to accept HTTP requests.
    #[arg(long, env = "ROADSTEAD_HTTP_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub http_listen: SocketAddr,
    /// Where to accept HTTPS requests. By default nowhere.
    #[arg(long, env = "ROADSTEAD_HTTPS_LISTEN", value_name = "ADDR")]
    pub https_listen: Option<SocketAddr>,
    /// The certificate chain for names that no host has one for, PEM. By default one that no client accepts.
    #[arg(long, env = "ROADSTEAD_DEFAULT_CERTIFICATE", value_name = "FILE", requires = "default_key")]
    pub default_certificate: Option<PathBuf>,
    /// The private key of --default-certificate, PEM.
    #[arg(long, env = "ROADSTEAD_DEFAULT_KEY", value_name = "FILE", requires = "default_certificate")]
    pub default_key: Option<PathBuf>,
    /// Where to keep the last good table. Each edge needs a directory of its own that outlives its restarts.
    #[arg(long, env = "ROADSTEAD_STATE_DIR", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// The key with which certificates are sealed in the last good table: 32 bytes, or their base64 or hexadecimal text, in
    /// a file of mode 0600. Without it they are not kept: after a restart HTTPS shows the default certificate until a
    /// controller is reached.
    #[arg(long, env = "ROADSTEAD_LAST_GOOD_KEY_FILE", value_name = "FILE")]
    pub last_good_key_file: Option<PathBuf>,
    /// The region this edge is in: clusters there come first where a host is served by the nearest.
    #[arg(long, env = "ROADSTEAD_REGION", value_name = "REGION", default_value = "", hide_default_value = true)]
    pub region: String,
    /// The zone this edge is in: endpoints with hints for it are preferred. Without it hints are ignored.
    #[arg(long, env = "ROADSTEAD_ZONE", value_name = "ZONE")]
    pub zone: Option<String>,
    /// Threads that serve requests. By default one per core.
    #[arg(long, env = "ROADSTEAD_WORKERS", value_name = "N")]
    pub workers: Option<NonZeroUsize>,
    /// Networks of proxies in front of this edge whose X-Forwarded-* fields are believed, as CIDR. By default nobody's.
    #[arg(long, env = "ROADSTEAD_TRUSTED_PROXIES", value_delimiter = ',', value_name = "CIDR")]
    pub trusted_proxies: Vec<IpNet>,
    /// Log every request. Off by default: at full load it costs more than the request.
    #[arg(long, env = "ROADSTEAD_ACCESS_LOG")]
    pub access_log: bool,
    /// Where to serve /livez, /readyz, /metrics and /status. Loopback by default: in a pod, use 0.0.0.0:9702.
    #[arg(long, env = "ROADSTEAD_OBSERVE_LISTEN", default_value = "127.0.0.1:9702", value_name = "ADDR")]
    pub observe_listen: SocketAddr,
    /// Serve the last good table as it is and follow no controller. For emergencies, until started without it.
    #[arg(long, env = "ROADSTEAD_FROZEN", value_parser = BoolishValueParser::new())]
    pub frozen: bool,
    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs until a signal.
///
/// # Errors
/// If a flag, file or address cannot be used, or a task ends that should not.
pub fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        log::init(&args.log)?;
        let stop = stop::on_signal().context("install signal handlers")?;
        serve(args, stop).await
    })
}

/// Runs until `stop`. Requests are served from the last good table before any controller is reached.
///
/// # Errors
/// As [`run`].
pub async fn serve(args: Args, stop: CancellationToken) -> anyhow::Result<()> {
    let Args {
        controller,
        controller_name,
        tls_cert,
        tls_key,
        tls_ca,
        http_listen,
        https_listen,
        default_certificate,
        default_key,
        state_dir,
        last_good_key_file,
        region,
        zone,
        workers,
        trusted_proxies,
        access_log,
        observe_listen,
        frozen,
        log: _,
    } = args;
    let off = unsafe_off();
    let tls = TlsFiles { certificate: tls_cert, key: tls_key, authority: tls_ca };
    let (tls, pool, edge) = identify(&tls)?;
    let controllers = Controllers::new(&controller, controller_name.as_deref(), &tls)?;
    let secured = Secured::of(https_listen, default_certificate.as_deref().zip(default_key.as_deref()))?;
    let sealing = sealing(last_good_key_file.as_deref(), https_listen)?;
    let state_dir = StateDir::open(&state_dir)?;
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));

    let table = LiveTable::new();
    let writer = TableWriter::new(table.clone(), locality(&pool, &region, zone.as_deref()));
    let users = Users::default();
    let holdings = Holdings::new(pool.clone(), writer).admitting(users.clone());
    let mut holdings = without(&off, holdings.showing(secured.as_ref().map(|it| it.certificates.clone())));
    let last_good = load(&state_dir, sealing, &mut holdings, (&metrics, &off))?;

    let probes = observe::bind("--observe-listen", observe_listen).await?;
    let access_log = if access_log { AccessLog::On } else { AccessLog::Off };
    let trusted_proxies = TrustedProxies::new(trusted_proxies);
    let config = Config { trusted_proxies, access_log, users, ..forwarding(&off) };
    let clock = Clock::start();
    let shared = Shared { table, clock, config, metrics: metrics.clone(), stop: stop.clone() };
    let workers = start_workers(http_listen, secured.as_ref(), workers, &shared)?;
    tracing::info!("Edge {edge} of pool {pool} accepts requests on {http_listen}");

    let version = env!("CARGO_PKG_VERSION").to_owned();
    let (pool, zone) = (pool.to_string(), zone.unwrap_or_default());
    let introduction = Introduction { edge: edge.clone(), pool: pool.clone(), region, zone, version };
    let machine = if frozen {
        tracing::warn!("--frozen: the last good table is served as it is and no controller is followed");
        Machine::frozen(holdings)
    } else {
        Machine::new(introduction, holdings, controllers.count(), rand::random())
    };
    let (readiness, status) = (Readiness::new(), SharedStatus::default());
    let reports = Reports { readiness: readiness.clone(), status: status.clone(), metrics, pool, edge };

    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let following = client::follow(Following { machine, controllers, last_good, clock, reports }, stop.clone());
    tasks.spawn(async {
        following.await;
        Ok(())
    });
    let probing = observe::serve(probes, Arc::new(registry), readiness, status.router(), stop.clone());
    tasks.spawn(async { Ok(probing.await?) });
    tasks.spawn(async { Ok(workers.ended().await?) });
    until_stopped(tasks, &stop).await?;
    // Only now may another edge use the directory.
    drop(state_dir);
    Ok(())
}

fn forwarding(off: &UnsafeOff) -> Config {
    let retries = if off.has(Part::Retries) { Retries::Off } else { Retries::On };
    let names = if off.has(Part::Names) { NamePolicy::Anywhere } else { NamePolicy::Elsewhere };
    Config { retries, names, ..Config::default() }
}

/// What this process is to do without.
fn unsafe_off() -> UnsafeOff {
    let off = UnsafeOff::from_environment();
    if !off.is_empty() {
        tracing::error!("ROADSTEAD_UNSAFE_OFF: this edge runs without {off}; never do this where requests matter");
    }
    off
}

fn without(off: &UnsafeOff, holdings: Holdings) -> Holdings {
    let checks = [(Part::Guard, Check::Guard), (Part::World, Check::World), (Part::Positions, Check::Positions)];
    let skipped = checks.into_iter().filter(|(part, _)| off.has(*part));
    skipped.fold(holdings, |holdings, (_, check)| holdings.without(check))
}

/// What it must know about where it is to find its way to clusters.
fn locality(pool: &PoolName, region: &str, zone: Option<&str>) -> Locality {
    let known = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
    Locality { zone: zone.and_then(known), region: known(region), pool: Some(pool.clone()), family: None }
}

/// Which edge of which pool the certificate makes this one.
fn identify(files: &TlsFiles) -> anyhow::Result<(TlsMaterial, PoolName, String)> {
    let tls = files.load()?;
    match tls.identity.clone() {
        Identity::Edge { pool, edge } => Ok((tls, pool, edge)),
        other => bail!(
            "--tls-cert {}: its identity is {other}; an edge needs pool/NAME/edge/ID: \
             roadstead-controller ca issue --identity pool/NAME/edge/ID",
            files.certificate.display()
        ),
    }
}

/// The HTTPS port, and what it shows.
struct Secured {
    address: SocketAddr,
    certificates: Arc<Certificates>,
    tls: Tls,
}

impl Secured {
    fn of(address: Option<SocketAddr>, default: Option<(&Path, &Path)>) -> anyhow::Result<Option<Self>> {
        let Some(address) = address else { return Ok(None) };
        let default = match default {
            Some((chain, key)) => certificates::default_from(chain, key)?,
            None => certificates::self_signed().context("make a default certificate")?,
        };
        let certificates = Arc::<Certificates>::default();
        let tls = Tls::new(certificates.clone(), default).context("--https-listen")?;
        Ok(Some(Self { address, certificates, tls }))
    }
}

/// How certificates get into the last good table.
fn sealing(key: Option<&Path>, https_listen: Option<SocketAddr>) -> anyhow::Result<Sealing> {
    let key = key.map(|path| SealKey::from_file("--last-good-key-file", path)).transpose()?;
    if https_listen.is_some() && key.is_none() {
        tracing::warn!(
            "Certificates are not kept on disk: after a restart HTTPS shows the default certificate until a controller is \
             reached; --last-good-key-file FILE keeps them sealed"
        );
    }
    Ok(Sealing::new(key))
}

fn start_workers(
    address: SocketAddr,
    secured: Option<&Secured>,
    workers: Option<NonZeroUsize>,
    shared: &Shared,
) -> anyhow::Result<Workers> {
    let workers = workers.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let workers = workers.min(WORKERS_MAX);
    let listeners = listen::bind(address, workers)?;
    let secured = match secured {
        Some(it) => Some((listen::bind_for("--https-listen", it.address, workers)?, it)),
        None => None,
    };
    let started = Workers::start(listeners, shared).context("start worker threads")?;
    let Some((listeners, secured)) = secured else { return Ok(started) };
    tracing::info!("HTTPS requests are accepted on {}", secured.address);
    let others = Workers::start_secured(listeners, shared, &secured.tls).context("start worker threads")?;
    Ok(started.and(others))
}

/// Reads what the last run left and starts the thread that keeps it up to date.
fn load(
    state_dir: &StateDir,
    sealing: Sealing,
    holdings: &mut Holdings,
    (metrics, off): (&Arc<Metrics>, &UnsafeOff),
) -> anyhow::Result<LastGood> {
    let directory = state_dir.path().display();
    let (journal, replayed) = Journal::open(state_dir.path())
        .with_context(|| format!("--state-dir {directory}: open the last good table"))?;
    if replayed.bytes_lost > 0 {
        tracing::warn!(bytes = replayed.bytes_lost, "The end of the last good table was damaged and is cut off");
    }
    let same_build = replayed.same_build;
    // A time that is not known, or that has not come yet, says nothing about an absence.
    if let Some(ago) = journal.current_at().and_then(|at| SystemTime::now().duration_since(at).ok()) {
        holdings.in_step_before_start(ago);
    }
    if !off.has(Part::LastGood) {
        let updates = replayed.updates.into_iter().map(|update| sealing.open(update)).collect();
        holdings.replay(Replayed { updates, ..replayed });
    }
    if holdings.is_complete() {
        tracing::info!(hosts = holdings.hosts(), backends = holdings.backends(), "Serving the last good table");
    }
    let last_good = LastGood::start(journal, metrics.clone(), Pace::default()).context("start a thread")?;
    let last_good = last_good.sealing(sealing);
    if !same_build {
        // What this build adds must not count as another build's.
        last_good.rewrite(holdings.snapshot());
    }
    Ok(last_good)
}

async fn until_stopped(mut tasks: JoinSet<anyhow::Result<()>>, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.context("run a task").and_then(|result| result);
        if outcome.is_ok() {
            outcome = match ended {
                Ok(()) if !stop.is_cancelled() => Err(anyhow::anyhow!("a task ended unexpectedly")),
                ended => ended,
            };
        }
        stop.cancel();
    }
    outcome
}
