//! What routing itself costs: a full build, and one changed Ingress, in worlds of several sizes.
//!
//! The same functions as in a controller, in this process and without anything else: objects in, what is dirty computed
//! and encoded. The cost of one change must not depend on the size of the world, so sizes are compared in one run.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context;
use prost::Message;
use roadstead_proto::resource::{backend_to_wire, host_to_wire};
use roadstead_routing::compute::{build, compute_backend, compute_host, compute_ingress};
use roadstead_routing::id::{ClusterId, PoolName};
use roadstead_routing::inputs::{Dirty, Inputs};
use roadstead_routing::policy::{ClassPolicy, Policy, PoolKind, PoolPolicy};
use serde::Serialize;

use crate::args::Compute;
use crate::report::Quantiles;
use crate::world::{Addresses, CLASS, Shape, World};

#[derive(Serialize, Debug)]
pub struct Report {
    pub clusters: usize,
    pub sizes: Vec<Size>,
    /// The median cost of a change in the largest world over that in the smallest.
    pub change_ratio: f64,
}

#[derive(Serialize, Debug)]
pub struct Size {
    pub hosts: usize,
    pub endpoints: usize,
    /// Taking every object over, with its indexes.
    pub load_ms: f64,
    pub build_ms: f64,
    pub change_p50_ms: f64,
    pub change_p99_ms: f64,
    pub change_max_ms: f64,
}

pub fn run(args: &Compute) -> anyhow::Result<()> {
    let sizes: Vec<Size> = args.hosts.iter().map(|hosts| measure(args, *hosts)).collect();
    let median = |size: Option<&Size>| size.map_or(0.0, |size| size.change_p50_ms);
    let change_ratio = median(sizes.last()) / median(sizes.first()).max(f64::EPSILON);
    let report = Report { clusters: args.clusters, sizes, change_ratio };
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| format!("--json: write {}", path.display()))?;
    }
    crate::app::print(&report.to_string())
}

fn measure(args: &Compute, hosts: usize) -> Size {
    let clusters: Vec<ClusterId> = (0..args.clusters).map(|index| format!("c{index:03}").as_str().into()).collect();
    let endpoints = hosts * args.endpoints_per_host;
    let shape = Shape { clusters, hosts, endpoints, domain: "bench.example.com".to_owned(), port: 8080 };
    let mut world = World::new(shape, &mut Addresses::default());
    let mut inputs = Inputs::new(policy());
    let objects: Vec<_> = (0..args.clusters).map(|cluster| world.objects(cluster)).collect();
    let start = Instant::now();
    for (cluster, objects) in world.clusters().iter().zip(objects) {
        for object in objects {
            inputs.apply(cluster, &object.key(), Some(object));
        }
    }
    let load = start.elapsed();
    let start = Instant::now();
    let outcome = build(&inputs);
    let built = start.elapsed();
    assert_eq!(outcome.table.hosts.len(), hosts, "every host must be in the table");
    drop(outcome);
    let changes: Vec<Duration> = (0..args.changes).map(|turn| change(&mut world, &mut inputs, turn)).collect();
    let Quantiles { p50_ms, p99_ms, max_ms, .. } = Quantiles::of(&changes);
    Size {
        hosts,
        endpoints,
        load_ms: millis(load),
        build_ms: millis(built),
        change_p50_ms: p50_ms,
        change_p99_ms: p99_ms,
        change_max_ms: max_ms,
    }
}

/// How long it takes until everything that one edited Ingress changes is ready to be sent.
fn change(world: &mut World, inputs: &mut Inputs, turn: usize) -> Duration {
    // A step that shares no factor with any number of Services spreads changes over the world.
    const STEP: usize = 1_000_003;
    let service = turn * STEP % world.services();
    let cluster = world.clusters()[world.cluster_of(service)].clone();
    let (object, _) = world.change_path(service);
    let start = Instant::now();
    let dirty = inputs.apply(&cluster, &object.key(), Some(object));
    let bytes = encode(inputs, &dirty);
    let elapsed = start.elapsed();
    assert!(bytes > 0, "a changed Ingress must change a host");
    elapsed
}

fn encode(inputs: &Inputs, dirty: &Dirty) -> usize {
    let hosts = dirty.hosts.iter().filter_map(|(pool, host)| compute_host(inputs, pool, host).host);
    let mut bytes: usize = hosts.map(|host| host_to_wire(&host).encode_to_vec().len()).sum();
    let backends = dirty.backends.iter().filter_map(|id| compute_backend(inputs, id).backend);
    bytes += backends.map(|backend| backend_to_wire(&backend).encode_to_vec().len()).sum::<usize>();
    for (cluster, ingress) in &dirty.ingresses {
        compute_ingress(inputs, cluster, ingress);
    }
    bytes
}

fn policy() -> Policy {
    let pool = PoolName::from("public");
    let of_pool = PoolPolicy { kind: PoolKind::Edge, addresses: Vec::new(), default: true, certificate: None };
    let class = ClassPolicy { pool: pool.clone(), status: Default::default(), mode: Default::default(), hsts: None };
    Policy { pools: [(pool, of_pool)].into(), classes: [(CLASS.to_owned(), class)].into(), ..Policy::default() }
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>8} {:>10} {:>10} {:>10} {:>12} {:>12} {:>12}",
            "hosts", "endpoints", "load ms", "build ms", "change p50", "p99", "max ms"
        )?;
        for size in &self.sizes {
            let Size { hosts, endpoints, load_ms, build_ms, change_p50_ms, change_p99_ms, change_max_ms } = size;
            writeln!(
                f,
                "{hosts:>8} {endpoints:>10} {load_ms:>10.0} {build_ms:>10.0} {change_p50_ms:>12.3} {change_p99_ms:>12.3} {change_max_ms:>12.3}"
            )?;
        }
        writeln!(
            f,
            "one change in the largest world takes {:.2} times what it takes in the smallest",
            self.change_ratio
        )
    }
}
