//! The course of one request: which part of its route takes it, and how an endpoint is chosen there.
//!
//! A route's settings and a request → its [`Course`]; the endpoint that answered → the cookie by which the client comes
//! back to it.

use http::{HeaderValue, Request};
use roadstead_routing::settings::{Affinity, AllDown, Balance, CanaryRule, ClientSettings, HashBy};

use super::asked::Asked;
use super::{canary, cookie};
use crate::balance::{Choice, Spread, keyed};
use crate::health::Millis;
use crate::table::{Groups, LiveEndpoint, LiveRoute, RouteSettings};

/// How often another key is tried for a client whose endpoint failed.
const KEYS_TRIED_MAX: usize = 16;

pub(super) struct Course<'a> {
    pub(super) route: &'a LiveRoute,
    pub(super) choice: Choice,
    /// Of the route's pattern, for rewrites.
    pub(super) groups: Groups,
    kept: Option<Kept<'a>>,
    /// What the client gets if no endpoint takes the request.
    pub(super) all_down: Option<&'a AllDown>,
}

/// A client that keeps to one endpoint.
struct Kept<'a> {
    affinity: &'a Affinity,
    /// What its cookie says.
    sent: Option<u64>,
    /// Whether it is to be remembered that the canary took it.
    is_canarys: bool,
}

impl<'a> Course<'a> {
    /// Of a route without settings.
    pub(super) fn plain(route: &'a LiveRoute) -> Self {
        Self { route, choice: Choice::default(), groups: Groups::default(), kept: None, all_down: None }
    }

    pub(super) fn new<B>(
        route: &'a LiveRoute,
        settings: &'a RouteSettings,
        groups: Groups,
        request: &Request<B>,
        asked: &Asked<'_>,
    ) -> Self {
        let client = &settings.client;
        let sent = client.affinity.as_ref().and_then(|affinity| cookie::sent(request.headers(), &affinity.cookie));
        let remembers = client.affinity.as_ref().is_some_and(|affinity| !affinity.forgets_canary);
        let canary = settings.canary.as_ref().filter(|canary| match sent {
            Some(sent) if remembers => sent.is_canarys,
            _ => is_canarys(&canary.rule, request),
        });
        let route = canary.map_or(route, |canary| &canary.route);
        let is_canarys = remembers && canary.is_some();
        let sent = sent.map(|sent| sent.number);
        let kept = client.affinity.as_ref().map(|affinity| Kept { affinity, sent, is_canarys });
        let mut choice = Choice { mark: None, spread: spread(client, request, asked) };
        if let Some(Kept { affinity, sent, .. }) = &kept {
            if affinity.is_balanced {
                choice.spread = Spread::Key(sent.unwrap_or_else(rand::random));
            } else {
                choice.mark = *sent;
            }
        }
        Self { route, choice, groups, kept, all_down: client.all_down.as_ref() }
    }

    /// That of the same request at the route's fallback.
    pub(super) fn to_fallback(&self) -> Option<Self> {
        let route = self.route.fallback.as_deref()?;
        let groups = self.groups.clone();
        Some(Self { route, choice: Choice::default(), groups, kept: None, all_down: self.all_down })
    }

    /// Whether it matters how fast endpoints answer.
    pub(super) fn is_timed(&self) -> bool {
        self.choice.spread == Spread::Faster
    }

    /// What the client is given to come back to the endpoint that answered it, unless it has it already.
    pub(super) fn cookie(&self, cluster: usize, endpoint: &LiveEndpoint, now: Millis) -> Option<HeaderValue> {
        let Kept { affinity, sent, is_canarys } = self.kept.as_ref()?;
        let number = match (self.choice.spread, sent) {
            (Spread::Key(key), None) if affinity.is_balanced => key,
            (Spread::Key(key), Some(_)) if affinity.is_balanced => {
                let is_home = keyed::home(self.route, cluster, key).is_none_or(|home| home.is_same(endpoint));
                if is_home || !affinity.change_on_failure {
                    return None;
                }
                self.other_key(cluster, now)?
            }
            (_, Some(mark)) if *mark == endpoint.mark => return None,
            (_, Some(mark)) if !affinity.change_on_failure && keyed::find(self.route, *mark).is_some() => return None,
            _ => endpoint.mark,
        };
        cookie::set(affinity, cookie::Sent { number, is_canarys: *is_canarys })
    }

    /// A key that leads to an endpoint which can be used.
    fn other_key(&self, cluster: usize, now: Millis) -> Option<u64> {
        let mut keys = std::iter::repeat_with(rand::random).take(KEYS_TRIED_MAX);
        keys.find(|key| keyed::home(self.route, cluster, *key).is_some_and(|home| home.health.is_usable(now)))
    }
}

fn is_canarys<B>(rule: &CanaryRule, request: &Request<B>) -> bool {
    let headers = request.headers();
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let cookie = |name: &str| cookie::get(headers, name);
    roadstead_routing::canary::takes(rule, header, cookie, canary::finds, |total| rand::random_range(1..=total))
}

fn spread<B>(client: &ClientSettings, request: &Request<B>, asked: &Asked<'_>) -> Spread {
    // A request that lacks what it is to be told apart by takes its turn.
    let key = client.hash_by.as_ref().and_then(|hash_by| hashed(hash_by, request, asked));
    match (key, client.balance) {
        (Some(key), _) => Spread::Key(key),
        (None, Balance::Ewma) => Spread::Faster,
        (None, Balance::RoundRobin) => Spread::Turns,
    }
}

fn hashed<B>(hash_by: &HashBy, request: &Request<B>, asked: &Asked<'_>) -> Option<u64> {
    let headers = request.headers();
    Some(match hash_by {
        HashBy::RequestUri => keyed::key(asked.target().as_bytes()),
        HashBy::RemoteAddress => keyed::key(asked.address.to_string().as_bytes()),
        HashBy::Host => keyed::key(asked.authority.to_ascii_lowercase().as_bytes()),
        HashBy::Header(name) => keyed::key(headers.get(&**name)?.as_bytes()),
        HashBy::Argument(name) => {
            let mut pairs = asked.uri.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            keyed::key(pairs.find(|(found, _)| *found == &**name)?.1.as_bytes())
        }
        HashBy::Cookie(name) => keyed::key(cookie::get(headers, name)?.as_bytes()),
    })
}
