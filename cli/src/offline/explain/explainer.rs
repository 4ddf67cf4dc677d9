//! One request → one [`Answer`]: host, route, settings, backends, certificate, in the order of an edge.

use std::sync::Arc;

use roadstead_routing::endpoints::{self, Locality};
use roadstead_routing::id::{BackendId, PoolName};
use roadstead_routing::lookup;
use roadstead_routing::table::{self, RouteBackend, Target};

use super::answer::{Answer, Backend, Ingress, Route};
use super::leg::{self, Part};
use super::place::{Kept, Written};
use super::why::{Seen, Why};
use crate::offline::request::Request;
use crate::offline::world::{IngressId, World};

/// Where requests arrive that do not say it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Where {
    /// `None`: the policy has no default pool.
    pub pool: Option<PoolName>,
    pub zone: Option<Arc<str>>,
    pub region: Option<Arc<str>>,
}

pub struct Explainer<'w> {
    world: &'w World,
    at: Where,
    kept: Kept,
}

impl<'w> Explainer<'w> {
    pub fn new(world: &'w World, at: Where) -> Self {
        Self { world, at, kept: Kept::default() }
    }

    /// # Errors
    /// If the request names no pool that there is.
    pub fn answer(&mut self, request: &Request) -> Result<Answer, String> {
        let pool = self.pool(request)?;
        let at = self.locality(request, &pool);
        let (host, path) = (lookup::request_host(&request.host), lookup::request_path(&request.path));
        let place = self.kept.find(&self.world.table, &pool, &host, &path);
        let written = self.kept.written(self.world, place);
        let seen = Seen { world: self.world, pool: &pool, host: &host, path: &path, place, written: written.as_ref() };
        let mut why = Why::default();
        why.request(request, &seen);
        why.bucket(&seen);
        why.route(&seen);
        let certificate = request.sni.as_deref().map(|sni| self.world.table.certificate(&pool, sni));
        let (status, backends) = self.outcome(request, &seen, &at, &mut why);
        if let (Some(sni), Some(certificate)) = (&request.sni, certificate) {
            why.certificate(sni, certificate);
        }
        why.findings(&seen);
        Ok(Answer {
            status,
            host: host.into_owned(),
            pool: pool.to_string(),
            route: written.map(Route::from),
            backends,
            certificate: certificate.flatten().map(|it| format!("{}/{}", it.cluster, it.secret)),
            why: why.steps,
        })
    }

    fn pool(&self, request: &Request) -> Result<PoolName, String> {
        let pools = &self.world.inputs.policy().pools;
        let names = || pools.keys().map(PoolName::as_str).collect::<Vec<_>>().join(", ");
        match request.pool.as_deref().map(PoolName::from).or_else(|| self.at.pool.clone()) {
            Some(pool) if pools.contains_key(&pool) => Ok(pool),
            Some(pool) => Err(format!("the policy has no pool {pool}; it has: {}", names())),
            None => Err(format!("no pool is named and the policy has no default pool; it has: {}", names())),
        }
    }

    fn locality(&self, request: &Request, pool: &PoolName) -> Locality {
        let zone = request.zone.as_deref().map(Into::into).or_else(|| self.at.zone.clone());
        Locality { zone, region: self.at.region.clone(), pool: Some(pool.clone()), family: None }
    }

    /// What the client gets, and from whom.
    fn outcome(&self, request: &Request, seen: &Seen<'w>, at: &Locality, why: &mut Why) -> (u16, Vec<Backend>) {
        let by = seen.place.by;
        let Some(client) = by.client() else { return (404, Vec::new()) };
        if let Some(reply) = leg::reply(client, request, &self.world.inputs) {
            why.steps.push(reply.step);
            return (reply.status, Vec::new());
        }
        why.steps.extend(leg::conditions(client));
        let parts = leg::parts(by, request);
        why.canary(by, &parts);
        let shared: Vec<Shared<'_>> = parts.iter().map(|part| self.shared(part, seen, at, why)).collect();
        let mut backends = self.weighed(&shared, at);
        backends.sort();
        if !backends.is_empty() {
            return (200, backends);
        }
        let fallback: Vec<Backend> = parts.iter().flat_map(|part| self.fallback(part, at)).collect();
        if !fallback.is_empty() {
            why.fallback();
            return (200, fallback);
        }
        let status = parts.first().map_or(404, |part| lookup::unserved_status(part.backends));
        why.unserved(status);
        match client.all_down.as_ref().filter(|_| status == 503) {
            None => (status, backends),
            Some(all_down) => (why.all_down(all_down), backends),
        }
    }

    /// Who shares the requests of one part.
    fn shared(&self, part: &Part<'w>, seen: &Seen<'w>, at: &Locality, why: &mut Why) -> Shared<'w> {
        let usable = |id: &BackendId| self.usable(id, at);
        let preference = (seen.place.by.strategy(), self.at.region.as_deref());
        let pods =
            |id: &BackendId| self.world.table.backends.get(id).map_or(0, |it| endpoints::destination(it, at).weighed());
        let shares = leg::shares(part.backends, preference, pods);
        why.shares(part.backends, &shares, usable);
        why.ways(at, shares.iter().filter_map(|(part, _)| self.backend(part)));
        Shared { weight: part.weight, sum: shares.iter().map(|(_, weight)| u64::from(*weight)).sum(), shares }
    }

    /// Who answers where nobody of the part can, sorted.
    fn fallback(&self, part: &Part<'w>, at: &Locality) -> Vec<Backend> {
        let asked = part.backends.iter().filter_map(|it| Some((it.fallback.as_ref()?, it.weight)));
        let mut backends: Vec<_> = asked
            .filter(|(id, _)| self.usable(id, at) > 0)
            .map(|(id, weight)| self.written(id, weight.into(), at))
            .collect();
        backends.sort();
        backends
    }

    fn written(&self, id: &BackendId, weight: u64, at: &Locality) -> Backend {
        Backend {
            cluster: id.cluster.to_string(),
            namespace: id.service.namespace.to_string(),
            service: id.service.name.to_string(),
            port: (&id.port).into(),
            weight,
            endpoints: self.endpoints(id, at),
        }
    }

    /// The shares of all parts in relation to each other, in the smallest whole numbers if there are several.
    fn weighed(&self, parts: &[Shared<'_>], at: &Locality) -> Vec<Backend> {
        let mut backends = Vec::new();
        for part in parts {
            let others = parts.iter().filter(|other| !std::ptr::eq(*other, part)).map(|other| other.sum.max(1));
            let factor = if parts.len() > 1 { others.product::<u64>() * u64::from(part.weight) } else { 1 };
            let weighed = |(share, weight): &(&RouteBackend, u32)| {
                let Target::Backend(id) = &share.target else { return None };
                Some(self.written(id, factor * u64::from(*weight), at))
            };
            backends.extend(part.shares.iter().filter_map(weighed));
        }
        if parts.len() > 1 {
            let divisor = backends.iter().map(|backend| backend.weight).fold(0, divisor).max(1);
            backends.iter_mut().for_each(|backend| backend.weight /= divisor);
        }
        backends
    }

    fn backend(&self, part: &RouteBackend) -> Option<&'w table::Backend> {
        match &part.target {
            Target::Backend(id) => self.world.table.backends.get(id),
            Target::Resource | Target::Nothing => None,
        }
    }

    /// How many [`Self::endpoints`] there are.
    fn usable(&self, id: &BackendId, at: &Locality) -> usize {
        let Some(backend) = self.world.table.backends.get(id) else { return 0 };
        endpoints::destination(backend, at).len()
    }

    /// What an edge at `at` can send to, sorted as text; a name that it resolves itself counts as one.
    fn endpoints(&self, id: &BackendId, at: &Locality) -> Vec<String> {
        let Some(backend) = self.world.table.backends.get(id) else { return Vec::new() };
        let destination = endpoints::destination(backend, at);
        if let Some(name) = destination.name {
            return vec![format!("{}:{}", name.host, name.port)];
        }
        let mut addresses: Vec<_> = destination.addresses.iter().map(ToString::to_string).collect();
        addresses.sort();
        addresses
    }
}

/// One part of the requests and who shares it.
struct Shared<'w> {
    weight: u32,
    /// Of the weights in `shares`.
    sum: u64,
    shares: Vec<(&'w RouteBackend, u32)>,
}

/// The greatest that divides both.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

impl From<Written> for Route {
    fn from(written: Written) -> Self {
        let Written { ingress: IngressId { cluster, name }, kind, path } = written;
        let ingress = Ingress {
            cluster: cluster.to_string(),
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
        };
        Self { kind, path, ingress }
    }
}
