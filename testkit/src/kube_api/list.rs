//! Lists: pages of a consistent snapshot.
//!
//! In: the parameters of a list request. Out: the objects of one page, the revision of the snapshot, the token of the next
//! page. How objects are shown is decided in `render`.

use std::sync::Arc;

use serde_json::Value;

use super::failure::Failure;
use super::faults::FaultSettings;
use super::kind::Kind;
use super::query::Query;
use super::selector::Selector;
use super::store::{Key, Store};

const LIST_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";
const VERSION_EXPIRED: &str = "The resourceVersion for the provided list is too old.";

/// What a list request wants.
#[derive(Debug)]
pub(crate) struct ListRequest {
    /// Only this namespace.
    pub(crate) namespace: Option<String>,
    /// Only matching objects.
    pub(crate) selector: Selector,
    limit: usize,
    from: From,
}

#[derive(Debug, PartialEq, Eq)]
enum From {
    Latest,
    Exactly(u64),
    NotOlderThan(u64),
    After(Token),
}

/// A continue token: the snapshot's revision, the page it leads to, the last key already sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    revision: u64,
    page: u32,
    last: Key,
}

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    /// The objects, in key order.
    pub(crate) items: Vec<Arc<Value>>,
    /// Revision of the snapshot.
    pub(crate) revision: u64,
    /// Token of the next page; empty on the last.
    pub(crate) next: String,
    /// Objects after this page; unknown with a selector.
    pub(crate) remaining: Option<usize>,
}

impl ListRequest {
    /// Reads the parameters of a list.
    pub(crate) fn parse(kind: &Kind, namespace: Option<String>, query: &Query) -> Result<Self, Failure> {
        let selector = Selector::parse(kind, query.get("labelSelector"), query.get("fieldSelector"))?;
        let number = |name: &str| match query.get(name) {
            Some(text) => {
                text.parse::<u64>().map(Some).map_err(|_| Failure::bad_request(format!("invalid {name}: {text:?}")))
            }
            None => Ok(None),
        };
        let limit = number("limit")?
            .filter(|limit| *limit > 0)
            .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let version = number("resourceVersion")?;
        let from = match (query.get("continue"), version, query.get("resourceVersionMatch")) {
            (Some(_), Some(1..), _) => {
                return Err(Failure::bad_request("specifying resource version is not allowed when using continue"));
            }
            (Some(_), _, Some(_)) => {
                return Err(Failure::bad_request("resourceVersionMatch is forbidden for list with continue"));
            }
            (Some(token), _, None) => From::After(Token::parse(token)?),
            (None, None, Some(_)) => {
                return Err(Failure::bad_request(
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            (None, None, None) => From::Latest,
            (None, Some(0), Some("Exact")) => {
                return Err(Failure::bad_request(
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
            (None, Some(version), Some("Exact")) => From::Exactly(version),
            (None, Some(version), Some("NotOlderThan") | None) => From::NotOlderThan(version),
            (None, Some(_), Some(other)) => {
                return Err(Failure::bad_request(format!("resourceVersionMatch {other:?} is not supported")));
            }
        };
        Ok(Self { namespace, selector, limit, from })
    }

    /// Takes the page from the store; faults may fail or empty it.
    pub(crate) fn run(&self, kind: &Kind, store: &Store, faults: &FaultSettings) -> Result<Page, Failure> {
        let current = store.revision();
        let (revision, page, last, expired) = match &self.from {
            From::Latest => (current, 1, None, VERSION_EXPIRED),
            From::Exactly(wanted) => (check_future(*wanted, current)?, 1, None, VERSION_EXPIRED),
            From::NotOlderThan(wanted) => {
                check_future(*wanted, current)?;
                (current, 1, None, VERSION_EXPIRED)
            }
            From::After(token) => (check_future(token.revision, current)?, token.page, Some(&token.last), LIST_EXPIRED),
        };
        faults.check_page(kind, page)?;
        if faults.is_list_empty(kind) {
            return Ok(Page { items: Vec::new(), revision, next: String::new(), remaining: None });
        }
        let table = store.snapshot(kind.resource, revision).map_err(|_| Failure::expired(expired))?;
        let is_wanted = |(key, object): &(&Key, &Arc<Value>)| {
            last.is_none_or(|last| *key > last)
                && self.namespace.as_ref().is_none_or(|namespace| key.0 == *namespace)
                && self.selector.matches(object)
        };
        let mut rest = table.iter().filter(is_wanted);
        let page_items: Vec<(&Key, &Arc<Value>)> = rest.by_ref().take(self.limit).collect();
        let remaining = rest.count();
        let next = match page_items.last() {
            Some((key, _)) if remaining > 0 => Token { revision, page: page + 1, last: Key::clone(key) }.to_text(),
            _ => String::new(),
        };
        Ok(Page {
            items: page_items.into_iter().map(|(_, object)| Arc::clone(object)).collect(),
            revision,
            remaining: (remaining > 0 && self.selector.is_everything()).then_some(remaining),
            next,
        })
    }
}

impl Token {
    fn parse(text: &str) -> Result<Self, Failure> {
        let mut parts = text.splitn(5, '.');
        let mut part = || parts.next().ok_or_else(|| Failure::bad_request("continue key is not valid"));
        if part()? != "v1" {
            return Err(Failure::bad_request("continue key is not valid"));
        }
        let revision = part()?.parse().map_err(|_| Failure::bad_request("continue key is not valid"))?;
        let page = part()?.parse().map_err(|_| Failure::bad_request("continue key is not valid"))?;
        Ok(Self { revision, page, last: (part()?.to_owned(), part()?.to_owned()) })
    }

    /// Namespaces have no dots, so that the name may.
    fn to_text(&self) -> String {
        format!("v1.{}.{}.{}.{}", self.revision, self.page, self.last.0, self.last.1)
    }
}

fn check_future(wanted: u64, current: u64) -> Result<u64, Failure> {
    if wanted > current { Err(Failure::from_the_future(wanted, current)) } else { Ok(wanted) }
}
