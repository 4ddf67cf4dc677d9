//! Requests of routes with settings, in the order in which settings apply (rule N-6): redirects → preflights →
//! access control → rate → which part of the route takes it → an endpoint. Every answer gets the fields that the route
//! adds, also one that the edge gives by itself.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use roadstead_routing::policy::Hsts;

use super::admit::Admitted;
use super::asked::Asked;
use super::course::Course;
use super::reply::{Completion, Instead, Problem, Streaming};
use super::{Proxy, cors, headers, redirect};
use crate::table::{Groups, LiveRoute, RouteSettings};

/// A route with settings, and what of its pattern a request matched.
pub(super) struct Matched<'a> {
    pub(super) route: &'a LiveRoute,
    pub(super) settings: &'a RouteSettings,
    pub(super) groups: Groups,
}

impl Proxy {
    pub(super) async fn follow(
        &self,
        request: Request<Incoming>,
        admitted: &Admitted<'_>,
        matched: Matched<'_>,
        completion: &mut Completion,
    ) -> Result<Response<Streaming>, Instead> {
        let settings = matched.settings;
        let client = &*settings.client;
        let origin = request.headers().get(header::ORIGIN).filter(|_| client.cors.is_some()).cloned();
        let hsts = client.hsts.filter(|_| headers::scheme(request.headers(), admitted.client) == "https");
        let mut answered = self.apply(request, admitted, matched, completion).await;
        let headers = match &mut answered {
            Ok(response) => response.headers_mut(),
            Err(instead) => {
                self.count(instead.problem);
                instead.headers_mut()
            }
        };
        add_fields(settings, origin.as_ref(), headers);
        if let Some(hsts) = hsts {
            headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert_with(|| strict(hsts));
        }
        answered
    }

    fn count(&self, problem: Option<Problem>) {
        match problem {
            Some(Problem::Limited) => drop(self.metrics.requests_limited.inc()),
            Some(Problem::Unauthenticated) => drop(self.metrics.requests_unauthenticated.inc()),
            _ => {}
        }
    }

    async fn apply(
        &self,
        mut request: Request<Incoming>,
        admitted: &Admitted<'_>,
        matched: Matched<'_>,
        completion: &mut Completion,
    ) -> Result<Response<Streaming>, Instead> {
        let Matched { route, settings, groups } = matched;
        let client = &*settings.client;
        let asked = Asked::new(&request, admitted, &self.config.trusted_proxies);
        if let Some((status, location)) = redirect::answer(client, &asked) {
            let mut instead = Instead::empty(status);
            instead.set(header::LOCATION, location);
            return Err(instead);
        }
        // Browsers send no credentials with it, and it says nothing but what the route's settings say anyway.
        if client.cors.is_some() && cors::is_preflight(&request) {
            return Err(Instead::empty(StatusCode::NO_CONTENT));
        }
        self.authorize(settings, &mut request, &asked, admitted).await?;
        if let Some(rate) = &client.rate {
            let taken = self.config.limiter.take(settings.id, asked.address, rate, self.clock.now());
            completion.hold(taken.map_err(|_| Problem::Limited)?);
        }
        let course = Course::new(route, settings, groups, &request, &asked);
        drop(asked);
        self.exchange(request, admitted, &course, completion).await
    }
}

/// What an endpoint says by itself counts instead.
fn strict(hsts: Hsts) -> HeaderValue {
    let mut text = format!("max-age={}", hsts.max_age);
    text.push_str(if hsts.include_subdomains { "; includeSubDomains" } else { "" });
    text.push_str(if hsts.preload { "; preload" } else { "" });
    HeaderValue::from_str(&text).expect("numbers and words must be visible characters")
}

fn add_fields(settings: &RouteSettings, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    if let Some(cors) = &settings.client.cors {
        cors::set(cors, origin, headers);
    }
    for (name, value) in &settings.response_headers {
        if !headers::frames_a_message(name) {
            headers.insert(name.clone(), value.clone());
        }
    }
}
