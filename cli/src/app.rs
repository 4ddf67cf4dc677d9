//! The commands: arguments → requests → tables for people, or JSON as the API gives it.
//!
//! Exit codes: 0 done; 1 the controller refused or its answer makes no sense; 2 the command line is wrong; 3 the
//! controller cannot be reached. An error is one line on stderr that says what to do.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use roadstead_api as api;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::{duration, table};

/// Hosts of a Hold that a table names.
const HOSTS_SHOWN_MAX: usize = 3;

/// Asks and instructs a Roadstead controller.
#[derive(Parser, Debug)]
#[command(name = "roadstead", version)]
pub struct Cli {
    /// The controller's --api-listen.
    #[arg(long, global = true, env = "ROADSTEAD_API", default_value = "http://127.0.0.1:9780", value_name = "URL")]
    api: String,
    /// The controller's --api-token-file.
    #[arg(long, global = true, env = "ROADSTEAD_API_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print the API's JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Which clusters there are and whether their agents report.
    Clusters,
    /// Which edges there are and whether they have everything.
    Edges,
    /// Problems that somebody should look at.
    Findings,
    /// Changes that wait for a decision.
    Holds {
        #[command(subcommand)]
        action: Option<Holds>,
    },
    /// Announce that a cluster or namespace is about to lose Ingresses, so that the guard lets it happen.
    ExpectRemoval {
        #[arg(long, value_name = "ID")]
        cluster: String,
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
        #[command(flatten)]
        terms: Terms,
    },
    /// Stop every change of hosts at a pool's edges; endpoints go on changing.
    Freeze {
        /// All pools if absent.
        pool: Option<String>,
        #[command(flatten)]
        terms: Terms,
    },
    /// End the freezes of a pool, or those of all pools at once.
    Unfreeze {
        /// The pool that was named to `freeze`.
        pool: Option<String>,
    },
    /// Expected removals and freezes that are in force.
    Overrides {
        #[command(subcommand)]
        action: Option<Overrides>,
    },
}

#[derive(Subcommand, Debug)]
enum Holds {
    /// Show them.
    List,
    /// Let the held changes go.
    Approve {
        id: String,
        #[command(flatten)]
        who: Who,
    },
    /// Close the Hold; its hosts keep their routes until their objects change again.
    Discard {
        id: String,
        #[command(flatten)]
        who: Who,
    },
}

#[derive(Subcommand, Debug)]
enum Overrides {
    /// Show them.
    List,
    /// End one before its time.
    Lift { id: String },
}

#[derive(Args, Debug)]
struct Terms {
    /// How long: 90s, 30m, 2h, 1d; at most 7d.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    for_seconds: u64,
    /// Why, for whoever finds it.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    who: Who,
}

#[derive(Args, Debug)]
struct Who {
    /// Who asks.
    #[arg(long, env = "USER", default_value = "unknown", value_name = "NAME")]
    by: String,
}

impl Cli {
    pub async fn run(self) -> ExitCode {
        let failed = match self.answer().await {
            Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
                Ok(()) => return ExitCode::SUCCESS,
                // Nobody reads it, such as `head` that has enough.
                Err(_) => return ExitCode::FAILURE,
            },
            Err(error) => error,
        };
        // If stderr is closed nobody is told.
        let _ = writeln!(std::io::stderr(), "error: {}", failed.to_string().replace('\n', "; "));
        match failed {
            ClientError::Address(_) | ClientError::NoToken | ClientError::Token { .. } => ExitCode::from(2),
            ClientError::Unreachable { .. } => ExitCode::from(3),
            ClientError::Refused(_) | ClientError::Answer(_) => ExitCode::FAILURE,
        }
    }

    async fn answer(self) -> Result<String, ClientError> {
        let client = Client::new(&self.api, self.token_file.as_deref())?;
        let (answer, show) = self.command.ask(&client).await?;
        if self.json {
            return Ok(format!("{answer:#}\n"));
        }
        show(answer)
    }
}

/// Makes text for people of an answer.
type Show = fn(Value) -> Result<String, ClientError>;

impl Command {
    async fn ask(self, client: &Client) -> Result<(Value, Show), ClientError> {
        Ok(match self {
            Command::Clusters => (client.get("/clusters").await?, clusters),
            Command::Edges => (client.get("/edges").await?, edges),
            Command::Findings => (client.get("/findings").await?, findings),
            Command::Holds { action: None | Some(Holds::List) } => (client.get("/holds").await?, holds),
            Command::Holds { action: Some(Holds::Approve { id, who }) } => {
                (decide(client, &id, "approve", who).await?, hold)
            }
            Command::Holds { action: Some(Holds::Discard { id, who }) } => {
                (decide(client, &id, "discard", who).await?, hold)
            }
            Command::ExpectRemoval { cluster, namespace, terms } => {
                let Terms { for_seconds, reason, who: Who { by } } = terms;
                let body = api::ExpectRemoval { cluster, namespace, for_seconds, reason, by };
                (client.post("/expect-removals", &body).await?, an_override)
            }
            Command::Freeze { pool, terms } => {
                let Terms { for_seconds, reason, who: Who { by } } = terms;
                (client.post("/freezes", &api::Freeze { pool, for_seconds, reason, by }).await?, an_override)
            }
            Command::Unfreeze { pool } => (unfreeze(client, pool).await?, overrides),
            Command::Overrides { action: None | Some(Overrides::List) } => (client.get("/overrides").await?, overrides),
            Command::Overrides { action: Some(Overrides::Lift { id }) } => {
                (client.delete(&format!("/overrides/{}", path_segment(&id)?)).await?, an_override)
            }
        })
    }
}

async fn decide(client: &Client, id: &str, decision: &str, who: Who) -> Result<Value, ClientError> {
    client.post(&format!("/holds/{}/{decision}", path_segment(id)?), &api::Decision { by: who.by }).await
}

/// Lifts every freeze of exactly that scope and answers what was lifted.
async fn unfreeze(client: &Client, pool: Option<String>) -> Result<Value, ClientError> {
    let scope = pool.map_or_else(|| "all".to_owned(), |pool| format!("pool/{pool}"));
    let found: api::Overrides = read(client.get("/overrides").await?)?;
    let mut lifted = Vec::new();
    for it in found.overrides.into_iter().filter(|it| it.kind == "freeze" && it.scope == scope) {
        lifted.push(client.delete(&format!("/overrides/{}", it.id)).await?);
    }
    if lifted.is_empty() {
        return Err(ClientError::Refused(format!("no freeze of {scope} is in force; see `roadstead overrides`")));
    }
    Ok(serde_json::json!({"overrides": lifted}))
}

/// Ids have no characters that mean something in a path; anything else is a typing mistake.
fn path_segment(id: &str) -> Result<&str, ClientError> {
    let is_id = !id.is_empty() && id.chars().all(|it| it.is_ascii_alphanumeric() || it == '-');
    is_id.then_some(id).ok_or_else(|| ClientError::Refused(format!("`{id}` is not an id; see `roadstead holds`")))
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, ClientError> {
    serde_json::from_value(answer).map_err(|error| ClientError::Answer(error.to_string()))
}

fn clusters(answer: Value) -> Result<String, ClientError> {
    let rows: Vec<_> = read::<api::Clusters>(answer)?
        .clusters
        .into_iter()
        .map(|it| {
            let (since, agent) = (it.since.unwrap_or_default(), it.agent_version.unwrap_or_default());
            [it.id, it.state, since, it.hosts.to_string(), it.findings.to_string(), agent]
        })
        .collect();
    Ok(table::render(["CLUSTER", "STATE", "SINCE", "HOSTS", "FINDINGS", "AGENT"], &rows, "No cluster ever reported."))
}

fn edges(answer: Value) -> Result<String, ClientError> {
    let rows: Vec<_> = read::<api::Edges>(answer)?
        .edges
        .into_iter()
        .map(|it| {
            let state = match (it.connected, it.synced) {
                (false, _) => "disconnected",
                (true, false) => "synchronising",
                (true, true) => "synced",
            };
            let hosts = format!("{}/{}", it.hosts_held, it.hosts);
            [it.pool, it.id, state.to_owned(), it.since, hosts, it.refused.len().to_string(), it.version]
        })
        .collect();
    let header = ["POOL", "EDGE", "STATE", "SINCE", "HOSTS", "REFUSED", "VERSION"];
    Ok(table::render(header, &rows, "No edge ever connected."))
}

fn findings(answer: Value) -> Result<String, ClientError> {
    let api::Findings { findings, total } = read(answer)?;
    let shown = findings.len();
    let rows: Vec<_> = findings
        .into_iter()
        .map(|it| [it.severity, it.cluster, it.object.unwrap_or_default(), it.code, it.message])
        .collect();
    let header = ["SEVERITY", "CLUSTER", "OBJECT", "CODE", "MESSAGE"];
    let mut text = table::render(header, &rows, "No findings.");
    if total > shown {
        text.push_str(&format!("… and {} more\n", total - shown));
    }
    Ok(text)
}

fn holds(answer: Value) -> Result<String, ClientError> {
    let holds = read::<api::Holds>(answer)?.holds;
    let rows: Vec<_> = holds.iter().map(hold_row).collect();
    let header = ["HOLD", "STATE", "POOL", "SCOPE", "SINCE", "HOSTS", "WRITTEN BY", "SUCH AS"];
    Ok(table::render(header, &rows, "Nothing is held."))
}

fn hold(answer: Value) -> Result<String, ClientError> {
    let hold: api::Hold = read(answer)?;
    Ok(format!("Hold {} is {}: {} hosts of {}\n", hold.id, hold.state, hold.hosts_total, hold.scope))
}

fn hold_row(hold: &api::Hold) -> [String; 8] {
    let hosts: Vec<&str> = hold.hosts.iter().take(HOSTS_SHOWN_MAX).map(String::as_str).collect();
    [
        hold.id.clone(),
        hold.state.clone(),
        hold.pool.clone(),
        hold.scope.clone(),
        hold.since.clone(),
        hold.hosts_total.to_string(),
        hold.cause.managers.join(","),
        hosts.join(" "),
    ]
}

fn overrides(answer: Value) -> Result<String, ClientError> {
    let rows: Vec<_> = read::<api::Overrides>(answer)?
        .overrides
        .into_iter()
        .map(|it| [it.id, it.kind, it.scope, it.expires, it.by, it.reason])
        .collect();
    Ok(table::render(["OVERRIDE", "KIND", "SCOPE", "UNTIL", "BY", "REASON"], &rows, "No override is in force."))
}

fn an_override(answer: Value) -> Result<String, ClientError> {
    let it: api::Override = read(answer)?;
    Ok(format!("{} of {} until {} ({})\n", it.kind, it.scope, it.expires, it.id))
}
