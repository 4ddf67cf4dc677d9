//! `roadstead migrate`: Ingresses written for ingress-nginx → what works as it is, what differs, what is left out, and
//! the routing table they would make.
//!
//! [`catalogue`] judges annotations and [`behaviour`] what nginx does without any; [`report`] joins them with
//! routing's own findings. With `--compare`, requests go to two addresses instead and [`compare`] says what differs.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use roadstead_routing::object::{IngressClass, Object};
use roadstead_routing::policy::{CONTROLLER_NAME, Policy};

use super::args::Migrate;
use super::manifests::{Manifests, STDIN};
use super::world::World;
use super::{OfflineError, Outcome, cluster, now, policy, printable, warn};

mod behaviour;
mod catalogue;
mod compare;
mod replay;
mod report;
mod show;

/// The classes that the policy lists if there is no file.
const CLASSES: [&str; 2] = ["nginx", "roadstead"];
/// Everything is read as of one cluster.
const CLUSTER: &str = "manifests";

/// # Errors
/// If an input or the command line is of no use, or an address cannot be reached.
pub async fn run(args: Migrate, json: bool) -> Result<Outcome, OfflineError> {
    let paths = args.paths.iter().chain(&args.requests);
    if paths.filter(|path| path.as_os_str() == STDIN).count() > 1 {
        return Err(OfflineError::Usage("stdin can be read once".to_owned()));
    }
    let policy = policy::read(args.policy.as_deref(), &CLASSES)?;
    let mut manifests = match &args.kubeconfig {
        Some(kubeconfig) => cluster::read(kubeconfig, args.context.as_deref()).await?,
        None => Manifests::default(),
    };
    for path in &args.paths {
        manifests.read(path)?;
    }
    warn(&manifests.skipped);
    let is_complete = manifests.skipped.is_empty();
    add_classes(&policy, &mut manifests);
    let whole = std::mem::take(&mut manifests.whole);
    let world = World::new(policy, vec![(CLUSTER.into(), manifests)], now());
    let is_fine = match <[String; 2]>::try_from(args.compare) {
        Ok(addresses) => compare_at(&addresses, &world, args.requests.as_deref(), json).await?,
        Err(_) => {
            let report = report::Report::new(&world, whole);
            print(&if json { pretty(&report) } else { printable(&show::text(&report)) })?;
            report.summary.refused == 0
        }
    };
    Ok(if args.strict && !(is_complete && is_fine) { Outcome::NotStrict } else { Outcome::Done })
}

/// Whether nothing differs.
async fn compare_at(
    addresses: &[String; 2],
    world: &World,
    requests: Option<&Path>,
    json: bool,
) -> Result<bool, OfflineError> {
    let plan = match requests {
        Some(path) => compare::read(path)?,
        None => compare::derive(world),
    };
    let comparison = compare::run(addresses, plan).await?;
    print(&if json { pretty(&comparison) } else { printable(&show::comparison(addresses, &comparison)) })?;
    Ok(comparison.differences.is_empty())
}

/// Teams rarely keep IngressClasses: those that the policy lists exist, as they will after the migration.
fn add_classes(policy: &Policy, manifests: &mut Manifests) {
    let named = |class: &str| {
        manifests.objects.iter().any(|object| matches!(object, Object::IngressClass(it) if &*it.name == class))
    };
    let missing: Vec<Arc<str>> =
        policy.classes.keys().filter(|class| !named(class)).map(|it| it.as_str().into()).collect();
    let class = |name: Arc<str>| IngressClass { name, controller: CONTROLLER_NAME.into(), ..IngressClass::default() };
    manifests.objects.extend(missing.into_iter().map(|name| Object::IngressClass(Arc::new(class(name)))));
}

fn pretty(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("a report must have text for keys");
    format!("{text}\n")
}

fn print(text: &str) -> Result<(), OfflineError> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}
