//! Commands → requests to the API. Returns the answer and what shows it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use roadstead_api as api;
use roadstead_api::Lifecycle;
use serde_json::Value;

use crate::app::args::{Canary, Change, Cluster, Command, Holds, Host, Overrides, Terms, Who};
use crate::app::show::{self, Show};
use crate::client::{Client, ClientError, read};

/// All but what RFC 3986 calls unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Command {
    /// # Errors
    /// If the controller does not answer or refuses.
    pub async fn ask(self, client: &Client) -> Result<(Value, Show), ClientError> {
        Ok(match self {
            Command::Clusters => (client.get("/clusters").await?, show::clusters),
            Command::Cluster(cluster) => cluster.ask(client).await?,
            Command::Edges => (client.get("/edges").await?, show::edges),
            Command::Pools => (client.get("/pools").await?, show::pools),
            Command::Findings => (client.get("/findings").await?, show::findings),
            Command::Alerts => (client.get("/alerts").await?, show::alerts),
            Command::Replicas => (client.get("/replicas").await?, show::replicas),
            Command::Holds { action } => action.unwrap_or(Holds::List).ask(client).await?,
            Command::ExpectRemoval { cluster, namespace, terms } => {
                let Terms { for_seconds, reason, who: Who { by } } = terms;
                let body = api::ExpectRemoval { cluster, namespace, for_seconds, reason, by };
                (client.post("/expect-removals", &body).await?, show::an_override)
            }
            Command::Freeze { pool, terms } => {
                let Terms { for_seconds, reason, who: Who { by } } = terms;
                (client.post("/freezes", &api::Freeze { pool, for_seconds, reason, by }).await?, show::an_override)
            }
            Command::Unfreeze { pool } => (unfreeze(client, pool).await?, show::overrides),
            Command::History { host, limit } => (history(client, host, limit).await?, show::history),
            Command::Pin { host, revision, terms } => (pin(client, host, revision, terms).await?, show::an_override),
            Command::Canary(Canary::Release { pool, who: Who { by } }) => {
                let path = format!("/pools/{}/canary/release", escaped(&pool));
                (client.post(&path, &api::Decision { by }).await?, show::released)
            }
            Command::Overrides { action } => action.unwrap_or(Overrides::List).ask(client).await?,
            Command::World => (client.get("/world").await?, show::world),
            Command::AdoptWorld { world, force, who: Who { by } } => {
                (client.post("/adopt-world", &api::AdoptWorld { world, force, by }).await?, show::world)
            }
        })
    }
}

impl Cluster {
    async fn ask(self, client: &Client) -> Result<(Value, Show), ClientError> {
        let (to, change, over, force) = match self {
            Cluster::List => return Ok((client.get("/clusters").await?, show::clusters)),
            Cluster::Readopt { id, uid, who: Who { by } } => {
                let path = format!("/clusters/{}/readopt", escaped(&id.id));
                return Ok((client.post(&path, &api::Readopt { uid, by }).await?, show::readopted));
            }
            Cluster::Activate { change, over } => (Lifecycle::Active, change, over.seconds, false),
            Cluster::Drain { change, over, force } => (Lifecycle::Draining, change, over.seconds, force.force),
            Cluster::FinishDrain { change, force } => (Lifecycle::Drained, change, None, force.force),
            Cluster::Offline { change, force } => (Lifecycle::Offline, change, None, force.force),
            Cluster::Remove { change, force } => (Lifecycle::Removed, change, None, force.force),
            Cluster::Rejoin { change } => (Lifecycle::Joining, change, None, false),
        };
        let Change { id, reason, who: Who { by } } = change;
        let body = api::ChangeLifecycle { to, over_seconds: over.unwrap_or_default(), force, by, reason };
        Ok((client.post(&format!("/clusters/{}/lifecycle", escaped(&id.id)), &body).await?, show::member))
    }
}

impl Holds {
    async fn ask(self, client: &Client) -> Result<(Value, Show), ClientError> {
        let (id, decision, Who { by }) = match self {
            Holds::List => return Ok((client.get("/holds").await?, show::holds)),
            Holds::Approve { id, who } => (id, "approve", who),
            Holds::Discard { id, who } => (id, "discard", who),
        };
        let path = format!("/holds/{}/{decision}", path_segment(&id)?);
        Ok((client.post(&path, &api::Decision { by }).await?, show::hold))
    }
}

impl Overrides {
    async fn ask(self, client: &Client) -> Result<(Value, Show), ClientError> {
        Ok(match self {
            Overrides::List => (client.get("/overrides").await?, show::overrides),
            Overrides::Lift { id } => {
                (client.delete(&format!("/overrides/{}", path_segment(&id)?)).await?, show::an_override)
            }
        })
    }
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

async fn history(client: &Client, Host { host, pool }: Host, limit: u32) -> Result<Value, ClientError> {
    let pool = pool_or_default(client, pool).await?;
    let path = format!("/pools/{}/hosts/{}/revisions?limit={limit}", escaped(&pool), escaped(&host));
    client.get(&path).await
}

async fn pin(client: &Client, host: Host, revision: i64, terms: Terms) -> Result<Value, ClientError> {
    let Host { host, pool } = host;
    let pool = pool_or_default(client, pool).await?;
    let Terms { for_seconds, reason, who: Who { by } } = terms;
    client.post("/pins", &api::Pin { pool, host, revision, for_seconds, reason, by }).await
}

async fn pool_or_default(client: &Client, pool: Option<String>) -> Result<String, ClientError> {
    match pool {
        Some(pool) => Ok(pool),
        None => default_of(read::<api::Pools>(client.get("/pools").await?)?.pools),
    }
}

fn default_of(mut pools: Vec<api::Pool>) -> Result<String, ClientError> {
    let default = pools.iter().position(|pool| pool.default);
    match default.or_else(|| (pools.len() == 1).then_some(0)) {
        Some(index) => Ok(pools.swap_remove(index).name),
        None if pools.is_empty() => {
            Err(ClientError::Refused("there is no pool; the policy file names them".to_owned()))
        }
        None => {
            let names: Vec<String> = pools.into_iter().map(|pool| pool.name).collect();
            Err(ClientError::Usage(format!("--pool NAME is missing, and no pool is the default: {}", names.join(", "))))
        }
    }
}

/// Ids have no characters that mean something in a path; anything else is a typing mistake.
fn path_segment(id: &str) -> Result<&str, ClientError> {
    let is_id = !id.is_empty() && id.chars().all(|it| it.is_ascii_alphanumeric() || it == '-');
    is_id.then_some(id).ok_or_else(|| ClientError::Refused(format!("`{id}` is not an id; see `roadstead holds`")))
}

/// As one segment of a path, whatever it contains.
fn escaped(segment: &str) -> PercentEncode<'_> {
    utf8_percent_encode(segment, SEGMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, default: bool) -> api::Pool {
        api::Pool { name: name.to_owned(), default, hosts: 0, backends: 0 }
    }

    #[test]
    fn without_a_pool_it_is_the_default_or_the_only_one() {
        assert_eq!(default_of(vec![pool("a", false)]).unwrap(), "a");
        assert_eq!(default_of(vec![pool("a", false), pool("b", true)]).unwrap(), "b");
        let error = default_of(vec![pool("a", false), pool("b", false)]).unwrap_err();
        assert!(matches!(&error, ClientError::Usage(_)) && error.to_string().contains("a, b"), "{error}");
        assert!(matches!(default_of(Vec::new()), Err(ClientError::Refused(_))));
    }

    #[test]
    fn what_is_no_letter_of_a_path_is_escaped() {
        assert_eq!(escaped("shop.example.com").to_string(), "shop.example.com");
        assert_eq!(escaped("*.a/b?c#d é%").to_string(), "%2A.a%2Fb%3Fc%23d%20%C3%A9%25");
    }
}
