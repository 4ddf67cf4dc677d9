//! Starts the fleet, then either says what to try and waits, or runs the scenario.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::check;
use crate::fleet::{Fleet, FleetOptions};
use crate::say;

/// The whole system on this machine: three simulated Kubernetes clusters in two regions, Postgres, one controller, two
/// edges, three agents. Everything listens on loopback; Ctrl-C stops it all.
#[derive(clap::Parser, Debug)]
#[command(name = "cargo xtask demo")]
pub struct Args {
    /// Break it on purpose while requests flow, print what happened, and exit non-zero on any miss.
    #[arg(long)]
    check: bool,
    /// With --check: also write the result as JSON.
    #[arg(long, value_name = "FILE", requires = "check")]
    json: Option<PathBuf>,
    /// The first edge's port; the second edge takes the next. A port that is taken is replaced by a free one.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { check, json, http_port } = args;
    let directory = tempfile::Builder::new().prefix("roadstead-demo-").tempdir().context("make a working directory")?;
    let binaries = roadstead_testkit::stack::roadstead::beside_current_exe()?;
    let options =
        FleetOptions { binaries, directory: directory.path().to_owned(), http_port: (!check).then_some(http_port) };
    say::line("Starting Roadstead");
    let mut stop = std::pin::pin!(roadstead_testkit::exit::requested());
    let mut fleet = tokio::select! {
        fleet = Fleet::start(options) => fleet?,
        () = &mut stop => return Ok(ExitCode::FAILURE),
    };
    let code = if check {
        tokio::select! {
            code = checked(&mut fleet, json) => code?,
            () = &mut stop => ExitCode::FAILURE,
        }
    } else {
        what_to_try(&mut fleet);
        stop.await;
        ExitCode::SUCCESS
    };
    say::line("Stopping");
    fleet.system.stop().await;
    Ok(code)
}

async fn checked(fleet: &mut Fleet, json: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    say::line("Breaking it on purpose");
    let rows = check::run(fleet).await;
    check::print(&rows);
    if let Some(file) = json {
        check::write_json(&rows, &file)?;
    }
    let missed = rows.iter().filter(|row| !row.ok).count();
    say::line(&format!("\n{} of {} claims hold", rows.len() - missed, rows.len()));
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn what_to_try(fleet: &mut Fleet) {
    let edge = fleet.edges()[0];
    let status = fleet.system.controller().observe();
    let kubeconfig = fleet.clusters[0].kubeconfig.display().to_string();
    say::line(&format!(
        "
Running. Open http://{status}/status for clusters, edges and findings; stop with Ctrl-C.

  One host, three clusters (50 : 30 : 20):
    curl -s -H 'Host: shop.example.com' http://{edge}/
  Another path, a host that one cluster has, a wildcard:
    curl -s -H 'Host: shop.example.com' http://{edge}/api
    curl -s -H 'Host: docs.example.com' http://{edge}/
    curl -s -H 'Host: pr-7.preview.example.com' http://{edge}/app

  Change something, as an application team would:
    export KUBECONFIG={kubeconfig}
    kubectl get ingress -A
    kubectl -n shop patch ingress shop --type=json -p '[{{\"op\":\"replace\",\"path\":\"/spec/rules/0/http/paths/1/path\",\"value\":\"/v2\"}}]'
    curl -s -H 'Host: shop.example.com' http://{edge}/v2
  Make a mistake, and read what Roadstead says about it:
    kubectl apply --validate=false -f examples/apps/broken/broken.yaml
    kubectl -n broken get events
    kubectl -n shop delete ingress shop         # the other two clusters go on serving the host
"
    ));
}
