//! Further hosts of an Ingress (rows 17, 18). A host that any Ingress declares by a rule is that one's.

use crate::declare::{Extra, rule_host};
use crate::id::HostKey;

use super::reader::Reader;
use super::value;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::declare) struct ExtraHosts {
    /// Serve what the first host of the Ingress serves.
    pub aliases: Vec<HostKey>,
    /// `www.HOST` is sent to `HOST`, or the other way round if the Ingress has that.
    pub www: bool,
}

pub(super) fn read(reader: &mut Reader<'_, '_>) -> ExtraHosts {
    let aliases = reader.value("server-alias", |names| value::list(names, alias));
    ExtraHosts { aliases: aliases.unwrap_or_default(), www: reader.flag("from-to-www-redirect").unwrap_or(false) }
}

fn alias(name: &str) -> Result<HostKey, String> {
    let host = rule_host(&name.to_ascii_lowercase()).filter(|host| *host != HostKey::Any);
    host.ok_or_else(|| format!("{name:?} is neither a DNS name nor a wildcard of one label"))
}

impl ExtraHosts {
    /// What they add to an Ingress whose first host is `first` and that declares `declared` by rules. Sorted.
    pub(in crate::declare) fn of(&self, first: Option<HostKey>, declared: &[HostKey]) -> Vec<(HostKey, Extra)> {
        let mut extra: Vec<(HostKey, Extra)> = Vec::new();
        if let Some(first) = first {
            extra.extend(self.aliases.iter().map(|alias| (alias.clone(), Extra::Alias(first.clone()))));
        }
        if self.www {
            let pairs = declared.iter().filter_map(|host| match host {
                HostKey::Exact(name) => Some((name, name.strip_prefix("www."))),
                _ => None,
            });
            extra.extend(pairs.map(|(name, bare)| {
                let other = bare.map_or_else(|| format!("www.{name}"), str::to_owned);
                (HostKey::Exact(other.into()), Extra::RedirectTo(name.clone()))
            }));
        }
        extra.retain(|(host, _)| !declared.contains(host));
        extra.sort();
        extra.dedup_by(|later, first| later.0 == first.0);
        extra
    }
}
