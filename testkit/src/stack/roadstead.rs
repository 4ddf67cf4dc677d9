//! The whole of Roadstead as real processes: Postgres, controllers, edges and agents, wired with certificates.
//!
//! In: which members there are, the policy, a folder to work in. Out: a running [`Roadstead`] whose members can be killed,
//! stopped and started again on the same addresses. Clusters are the caller's: an agent gets the kubeconfig of one.
//! Dropping everything ends all processes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::postgres::{Durability, Postgres, PostgresOptions};
use crate::stack::{Spec, binaries, ports};

mod certificates;
mod member;
mod probe;

pub use certificates::CertificateFiles;
pub use member::Member;

use certificates::Authority;
use member::Addresses;

/// How long a controller may take from its start until it is ready.
const CONTROLLER_READY_WITHIN: Duration = Duration::from_secs(60);
const CONTROLLER: &str = "roadstead-controller";
const DATABASE: &str = "roadstead";
const DATABASE_VARIABLE: &str = "ROADSTEAD_DATABASE_URL";

/// What to start.
#[derive(Clone, Debug)]
pub struct RoadsteadOptions {
    /// The folder of the binaries, as [`beside_current_exe`] finds it.
    pub binaries: PathBuf,
    /// For certificates, policy, logs and the edges' state. Must exist; the caller removes it.
    pub directory: PathBuf,
    /// The policy file's text, YAML.
    pub policy: String,
    /// At least one.
    pub controllers: usize,
    /// Further arguments of every controller.
    pub controller_args: Vec<String>,
    pub edges: Vec<EdgeOptions>,
    pub agents: Vec<AgentOptions>,
    /// Durable unless changed.
    pub postgres: PostgresOptions,
}

/// One edge.
#[derive(Clone, Debug)]
pub struct EdgeOptions {
    /// Its id in the pool.
    pub name: String,
    pub pool: String,
    pub region: Option<String>,
    pub zone: Option<String>,
    /// Where it takes requests; a free loopback port if absent.
    pub http: Option<SocketAddr>,
    /// Where it takes HTTPS requests; nowhere if absent.
    pub https: Option<SocketAddr>,
    /// Numbers of the controllers that it knows, from 1, in the order in which it tries them. Empty: all, the second
    /// edge trying the second one first, and so on.
    pub controllers: Vec<usize>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Environment variables on top of ours.
    pub env: Vec<(String, String)>,
}

/// One agent.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// What it is called here; agents of one cluster need a name each.
    pub name: String,
    /// The id of its cluster.
    pub cluster: String,
    pub kubeconfig: PathBuf,
    /// Numbers of the controllers that it knows, from 1, in the order in which it tries them. Empty: all.
    pub controllers: Vec<usize>,
    /// Further arguments.
    pub args: Vec<String>,
    /// Environment variables on top of ours.
    pub env: Vec<(String, String)>,
}

/// The running system.
#[derive(Debug)]
pub struct Roadstead {
    binaries: PathBuf,
    directory: PathBuf,
    /// The controllers' one.
    database: String,
    authority: Authority,
    edges: Vec<Member>,
    agents: Vec<Member>,
    controllers: Vec<Member>,
    // Last, so that it is also dropped last: controllers write until they end.
    postgres: Postgres,
}

impl RoadsteadOptions {
    /// One controller, no edges, no agents, a durable Postgres.
    pub fn new(binaries: impl Into<PathBuf>, directory: impl Into<PathBuf>, policy: impl Into<String>) -> Self {
        Self {
            binaries: binaries.into(),
            directory: directory.into(),
            policy: policy.into(),
            controllers: 1,
            controller_args: Vec::new(),
            edges: Vec::new(),
            agents: Vec::new(),
            postgres: PostgresOptions { durability: Durability::Safe, ..PostgresOptions::default() },
        }
    }
}

impl EdgeOptions {
    pub fn new(name: &str, pool: &str) -> Self {
        Self {
            name: name.to_owned(),
            pool: pool.to_owned(),
            region: None,
            zone: None,
            http: None,
            https: None,
            controllers: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// The same with HTTPS on a free loopback port.
    #[must_use]
    pub fn with_https(self) -> Self {
        let [https] = free_addresses();
        Self { https: Some(https), ..self }
    }
}

impl AgentOptions {
    /// Named after its cluster.
    pub fn new(cluster: &str, kubeconfig: impl Into<PathBuf>) -> Self {
        Self {
            name: cluster.to_owned(),
            cluster: cluster.to_owned(),
            kubeconfig: kubeconfig.into(),
            controllers: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// The folder in which cargo has put the binaries of the workspace: that of the running program, also for tests.
///
/// # Errors
/// If they are not there; the text says where they were looked for.
pub fn beside_current_exe() -> anyhow::Result<PathBuf> {
    let controller = binaries::find(CONTROLLER)?;
    Ok(controller.parent().context("find the folder of the binaries")?.to_owned())
}

impl Roadstead {
    /// Starts Postgres and the controllers, waits until these are ready, then starts edges and agents without waiting.
    ///
    /// # Errors
    /// Names what did not start, with the end of its log.
    pub async fn start(options: RoadsteadOptions) -> anyhow::Result<Self> {
        ensure!(options.controllers > 0, "at least one controller is needed");
        let authority = options.directory.join("certificates");
        let authority = Authority::open(&options.binaries.join(CONTROLLER), &authority).await?;
        let postgres = Postgres::start(options.postgres).await.context("start Postgres")?;
        postgres.create_database(DATABASE).await.context("create the database")?;
        let mut roadstead = Self {
            binaries: options.binaries,
            directory: options.directory,
            database: DATABASE.to_owned(),
            authority,
            edges: Vec::new(),
            agents: Vec::new(),
            controllers: Vec::new(),
            postgres,
        };
        roadstead.set_policy(&options.policy)?;
        for number in 1..=options.controllers {
            roadstead.add_controller(number, &options.controller_args).await?;
        }
        for controller in &mut roadstead.controllers {
            controller.wait_ready(CONTROLLER_READY_WITHIN).await?;
        }
        for edge in options.edges {
            roadstead.add_edge(edge).await?;
        }
        for agent in options.agents {
            roadstead.add_agent(agent).await?;
        }
        Ok(roadstead)
    }

    /// Waits until every member that is running says it is ready.
    ///
    /// # Errors
    /// Names the first that is not, with its reasons and the end of its log.
    pub async fn wait_ready(&mut self, within: Duration) -> anyhow::Result<()> {
        let members = self.controllers.iter_mut().chain(&mut self.edges).chain(&mut self.agents);
        let running = members.filter(|member| member.pid().is_some());
        futures::future::try_join_all(running.map(|member| member.wait_ready(within))).await?;
        Ok(())
    }

    /// Controllers, edges, agents.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.controllers.iter().chain(&self.edges).chain(&self.agents)
    }

    /// The first controller.
    pub fn controller(&mut self) -> &mut Member {
        &mut self.controllers[0]
    }

    pub fn controllers(&mut self) -> &mut [Member] {
        &mut self.controllers
    }

    pub fn edges(&mut self) -> &mut [Member] {
        &mut self.edges
    }

    pub fn agents(&mut self) -> &mut [Member] {
        &mut self.agents
    }

    /// # Panics
    /// If there are not so many edges.
    pub fn edge(&mut self, index: usize) -> &mut Member {
        &mut self.edges[index]
    }

    /// # Panics
    /// If no agent of that name was ever started.
    pub fn agent(&mut self, name: &str) -> &mut Member {
        let name = agent_name(name);
        self.agents.iter_mut().find(|agent| agent.name() == name).expect("must be the name of an agent")
    }

    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// For outages of the database.
    pub fn postgres_mut(&mut self) -> &mut Postgres {
        &mut self.postgres
    }

    /// The URL of the controllers' database.
    pub fn database_url(&self) -> String {
        self.postgres.url(&self.database)
    }

    /// Makes an empty database in the same Postgres; controllers use it from their next start on.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn use_empty_database(&mut self, name: &str) -> anyhow::Result<()> {
        self.postgres.create_database(name).await.context("create the database")?;
        self.use_database(name);
        Ok(())
    }

    /// Copies the controllers' database. No controller may be running.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub async fn back_up_database(&self, name: &str) -> anyhow::Result<()> {
        self.postgres.create_from_template(&self.database, name).await.context("copy the database")
    }

    /// Controllers use this database, which must exist, from their next start on.
    pub fn use_database(&mut self, name: &str) {
        name.clone_into(&mut self.database);
        let url = self.database_url();
        for controller in &mut self.controllers {
            controller.set_env(DATABASE_VARIABLE, &url);
        }
    }

    /// Replaces the policy file in one step. Controllers notice it when they look next.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_policy(&self, yaml: &str) -> anyhow::Result<()> {
        let (path, new) = (self.policy_path(), self.directory.join("policy.yaml.new"));
        std::fs::write(&new, yaml).and_then(|()| std::fs::rename(&new, &path)).context("write the policy file")
    }

    /// A certificate for a peer that the caller plays itself, for example `cluster/eu-west`.
    ///
    /// # Errors
    /// What `roadstead-controller ca issue` said.
    pub async fn issue(&self, identity: &str) -> anyhow::Result<CertificateFiles> {
        self.authority.issue(identity, &[]).await
    }

    /// What the first controller that was not ended answers to `GET /status`.
    ///
    /// # Errors
    /// If it does not answer with JSON.
    pub async fn status(&self) -> anyhow::Result<serde_json::Value> {
        let first = self.controllers.iter().position(|controller| controller.pid().is_some());
        self.status_at(first.context("a controller runs")? + 1).await
    }

    /// What the controller of this number, from 1, answers to `GET /status`.
    ///
    /// # Errors
    /// If it does not answer with JSON.
    pub async fn status_at(&self, number: usize) -> anyhow::Result<serde_json::Value> {
        let body = self.numbered(number)?.get("/status").await?;
        serde_json::from_str(&body).context("read /status as JSON")
    }

    /// Runs the command line `roadstead` against the first controller and waits for its end.
    ///
    /// # Errors
    /// If it cannot be run. What it said, and whether it succeeded, is in the answer.
    pub async fn cli(&self, args: &[&str]) -> anyhow::Result<std::process::Output> {
        self.cli_at(1, args).await
    }

    /// As [`Self::cli`], against the controller of this number, from 1.
    ///
    /// # Errors
    /// As [`Self::cli`].
    pub async fn cli_at(&self, number: usize, args: &[&str]) -> anyhow::Result<std::process::Output> {
        let api = self.numbered(number)?.api().context("a controller has an admin API")?;
        let mut command = tokio::process::Command::new(self.binaries.join("roadstead"));
        command
            .args(flag("--api", &format!("http://{api}")))
            .args(flag("--token-file", &self.token_path(number).display()));
        command.args(args).kill_on_drop(true).output().await.context("run roadstead; build it with --workspace --bins")
    }

    /// Starts one more edge. The second one tries the second controller first, and so on.
    ///
    /// # Errors
    /// If its certificate or process cannot be made.
    pub async fn add_edge(&mut self, options: EdgeOptions) -> anyhow::Result<&mut Member> {
        let EdgeOptions { name, pool, region, zone, http, https, controllers, args, env } = options;
        let files = self.authority.issue(&format!("pool/{pool}/edge/{name}"), &[]).await?;
        let [observe] = free_addresses();
        let [free_http] = free_addresses();
        let http = http.unwrap_or(free_http);
        let state = self.directory.join("state").join(&name);
        std::fs::create_dir_all(&state).with_context(|| format!("create {}", state.display()))?;
        let mut arguments = files.flags();
        arguments.extend(self.controller_flags(&controllers, self.edges.len()));
        arguments.extend(flag("--http-listen", &http));
        arguments.extend(https.into_iter().flat_map(|https| flag("--https-listen", &https)));
        arguments.extend(flag("--observe-listen", &observe));
        arguments.extend(flag("--state-dir", &state.display()));
        arguments.extend(region.into_iter().flat_map(|region| flag("--region", &region)));
        arguments.extend(zone.into_iter().flat_map(|zone| flag("--zone", &zone)));
        arguments.extend(args);
        let addresses = Addresses { observe, http: Some(http), https, grpc: None, api: None };
        let edge = self.member(&format!("edge-{name}"), "roadstead-edge", (arguments, env), addresses).await?;
        Ok(self.edges.push_mut(edge))
    }

    /// Starts one more agent.
    ///
    /// # Errors
    /// If its certificate or process cannot be made.
    pub async fn add_agent(&mut self, options: AgentOptions) -> anyhow::Result<&mut Member> {
        let AgentOptions { name, cluster, kubeconfig, controllers, args, env } = options;
        let files = self.authority.issue(&format!("cluster/{cluster}"), &[]).await?;
        let [observe] = free_addresses();
        let mut arguments = files.flags();
        arguments.extend(self.controller_flags(&controllers, 0));
        arguments.extend(flag("--kubeconfig", &kubeconfig.display()));
        arguments.extend(flag("--observe-listen", &observe));
        arguments.extend(args);
        let addresses = Addresses { observe, http: None, https: None, grpc: None, api: None };
        let agent = self.member(&agent_name(&name), "roadstead-agent", (arguments, env), addresses).await?;
        Ok(self.agents.push_mut(agent))
    }

    /// Asks everything to end: edges, agents and controllers, then Postgres.
    pub async fn stop(mut self) {
        futures::future::join_all(self.edges.iter_mut().chain(&mut self.agents).map(Member::terminate)).await;
        futures::future::join_all(self.controllers.iter_mut().map(Member::terminate)).await;
        self.postgres.stop().await;
    }

    async fn add_controller(&mut self, number: usize, args: &[String]) -> anyhow::Result<()> {
        let names = ["--dns", "localhost", "--ip", "127.0.0.1"];
        let files = self.authority.issue(&format!("controller/c{number}"), &names).await?;
        let [observe, grpc, api] = free_addresses();
        let mut arguments = vec!["serve".to_owned()];
        arguments.extend(files.flags());
        arguments.extend(flag("--policy", &self.policy_path().display()));
        arguments.extend(flag("--grpc-listen", &grpc));
        arguments.extend(flag("--observe-listen", &observe));
        arguments.extend(flag("--api-listen", &api));
        arguments.extend(flag("--api-token-file", &self.token_path(number).display()));
        arguments.extend_from_slice(args);
        let addresses = Addresses { observe, http: None, https: None, grpc: Some(grpc), api: Some(api) };
        let name = format!("controller-{number}");
        let env = vec![(DATABASE_VARIABLE.to_owned(), self.database_url())];
        let controller = self.member(&name, CONTROLLER, (arguments, env), addresses).await?;
        self.controllers.push(controller);
        Ok(())
    }

    async fn member(
        &self,
        name: &str,
        program: &str,
        (arguments, env): (Vec<String>, Vec<(String, String)>),
        addresses: Addresses,
    ) -> anyhow::Result<Member> {
        let mut spec = Spec::new(name, self.binaries.join(program)).args(arguments);
        spec.log_folder = Some(self.directory.join("logs"));
        spec.env = env;
        Member::spawn(spec, addresses).await
    }

    /// The controllers of these numbers; of none, all of them, the one of index `first` (counted round) before the others.
    fn controller_flags(&self, numbers: &[usize], first: usize) -> Vec<String> {
        let count = self.controllers.len();
        let all: Vec<usize> = (0..count).map(|index| (first + index) % count + 1).collect();
        let numbers = if numbers.is_empty() { &all } else { numbers };
        let known = numbers.iter().filter_map(|number| self.controllers.get(number.checked_sub(1)?)?.grpc());
        known.flat_map(|address| flag("--controller", &format!("https://{address}"))).collect()
    }

    fn numbered(&self, number: usize) -> anyhow::Result<&Member> {
        let controller = number.checked_sub(1).and_then(|index| self.controllers.get(index));
        controller.with_context(|| format!("there is no controller {number}"))
    }

    fn token_path(&self, number: usize) -> PathBuf {
        self.directory.join(format!("controller-{number}.token"))
    }

    fn policy_path(&self) -> PathBuf {
        self.directory.join("policy.yaml")
    }
}

fn agent_name(name: &str) -> String {
    format!("agent-{name}")
}

fn flag(name: &str, value: &impl ToString) -> [String; 2] {
    [name.to_owned(), value.to_string()]
}

fn free_addresses<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let ports = ports::free(COUNT);
    std::array::from_fn(|index| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[index])))
}
