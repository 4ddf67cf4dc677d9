//! Named switches for the rules of this crate, so that tests can prove each rule is tested.
//!
//! In a normal build [`on`] is the constant `true` and costs nothing. In a test build one rule at a time can be
//! switched the wrong way for the current thread; a test demands that some case then fails.

use std::cmp::Ordering;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule whose violation must be noticed. The text says what goes wrong when it is switched off.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Rule {
            $($(#[$doc])* $name,)*
        }

        #[cfg(test)]
        impl Rule {
            pub(crate) const ALL: &[Rule] = &[$(Rule::$name,)*];
        }
    };
}

rules! {
    /// S-1: the Host header is compared as sent.
    HostLowercased,
    /// S-1: the port stays part of the host.
    HostWithoutPort,
    /// S-1: a trailing dot stays part of the host.
    HostWithoutDot,
    /// S-2: a wildcard matches any number of labels.
    WildcardOneLabel,
    /// S-3: the wildcard is asked before the exact host.
    HostExactBeforeWildcard,
    /// S-3: an unmatched path falls to a wider host.
    FirstBucketFinal,
    /// S-6: prefixes are compared as strings.
    PrefixByElement,
    /// S-7: an empty path is no path.
    EmptyPathIsRoot,
    /// S-8, S-10: a prefix is asked before the Exact paths.
    ExactBeforePrefix,
    /// S-8: the shortest prefix wins.
    LongestPrefixFirst,
    /// S-9: `/foo` has priority over `/foo/`.
    SlashFormPriority,
    /// S-10: regular expressions are asked after the prefixes.
    RegexBeforePrefix,
    /// S-10: the shortest pattern is asked first.
    LongestRegexFirst,
    /// S-10: ImplementationSpecific has priority over Prefix.
    PrefixOverImpl,
    /// S-11: an entry without a usable backend is dropped.
    SlotKept,
    /// S-11, M-1: a resource backend answers 503.
    ResourceIs404,
    /// M-1: one resource among the backends is enough for 404.
    ResourceOnlyIfAll,
    /// S-12: a host's own default is ignored.
    DefaultOwnFirst,
    /// S-12: the oldest default wins even if its Ingress has rules.
    DefaultRulesFreeFirst,
    /// S-13: a rule without paths declares nothing.
    NoPathsDeclaresHost,
    /// S-15: the query is part of the path.
    QueryCut,
    /// S-15: `%2F` is decoded too.
    DecodeUnreservedOnly,
    /// S-15: dot segments are removed before slashes are merged.
    NormaliseOrder,
    /// S-15: rule paths are compared as written.
    DecodedRulePaths,
    /// S-16: the annotation makes Exact and Prefix paths patterns too.
    RegexOnlyImpl,
    /// S-16: patterns are case-sensitive.
    RegexCaseInsensitive,
    /// S-16: patterns match anywhere in the path.
    RegexAnchored,
    /// S-17: one bad entry discards its whole Ingress.
    BadEntrySkippedAlone,
    /// I-2: the youngest Ingress wins.
    OldestWins,
    /// I-2: of Ingresses of one age the last name wins.
    TieByName,
    /// I-2: of entries of one Ingress the last wins.
    TieBySpecOrder,
    /// I-4: the field decides although the annotation is there.
    ClassAnnotationFirst,
    /// I-4: a class named by field need not exist.
    ClassMustExist,
    /// P-1: FQDN slices count.
    FqdnIgnored,
    /// P-2: any port serves any number.
    PortByServiceNumber,
    /// P-2: the Service's port is dialled.
    TargetPortFromSlice,
    /// P-3: absent `ready` means not ready.
    ReadyNullIsTrue,
    /// P-3: terminating endpoints never serve.
    TerminatingFallback,
    /// P-4: the not-ready one of two equal addresses wins.
    DedupeReadyWins,
    /// P-5: hints count although some endpoints have none.
    ZoneHintsAllOrNothing,
    /// M-1: slots of one cluster keep all their candidates.
    LocalWinnerFirst,
    /// M-1: `/foo` and `/foo/` are different keys.
    CanonicalSlash,
    /// M-3: a cluster without endpoints keeps its share.
    EmptyHasNoShare,
    /// M-4: only the first cluster of a host is used.
    UnionAcrossClusters,
    /// M-5: Exact and Prefix share a key.
    TypesDoNotPool,
    /// M-6: only the first cluster's catch-all is used.
    DefaultsPool,
    /// M-7: the first cluster's access rules are enough.
    StrictestAccess,
    /// M-8: grants bind nobody.
    GrantsBind,
    /// what a Service says is ignored.
    ServiceDecidesReach,
    /// nodes that are not ready count.
    OnlyReadyNodes,
    /// with traffic policy Local nodes without a pod count.
    LocalTrafficStays,
    /// a gateway is used although nobody is behind it.
    EmptyIsNotReached,
    /// pod addresses in doubt are used as before.
    DoubtfulAddressesLeft,
    /// doubt changes no weight.
    DoubtHalves,
    /// C-1: the cookie is asked before the header.
    CanaryHeaderFirst,
    /// C-2: with a value, `always` decides too.
    CanaryValueExact,
    /// C-3: totals of 100 or less count.
    CanaryTotal,
    /// C-4: a canary needs no main Ingress.
    CanaryNeedsMain,
    /// Row 18: an alias takes a host from the Ingress that declares it.
    AliasYields,
    /// P-6: an ExternalName leads nowhere.
    ExternalNameServes,
    /// P-7: `appProtocol` is ignored.
    AppProtocol,
    /// L-1: a wildcard's certificate is shown before the host's own.
    CertificateExactFirst,
    /// L-2: the youngest valid certificate wins.
    CertificateOldestValid,
    /// L-3: a certificate for other names is shown.
    CertificateCovers,
    /// L-4: an expired certificate is not shown.
    ExpiredStays,
    /// M-9: the first cluster's certificate wins.
    CertificateLatest,
    /// D-1: a small step of a ramp sends nothing.
    RampRoundsUp,
    /// D-2: a joining cluster keeps its slots with weight 0.
    JoiningOutOfTable,
    /// D-3: a drained cluster is a last resort.
    DrainedUnreachable,
    /// D-4: an expired cluster keeps its weight.
    ExpiredYields,
    /// D-5: staleness takes the weight of the last backend too.
    LastBackendStays,
    /// B-1: a route may leave unnoticed.
    GuardRoutes,
    /// B-1: a cluster's last backend may leave a host unnoticed.
    GuardLastBackend,
    /// B-2: small pools have no allowance.
    PoolAllowance,
    /// B-2: large pools have no share.
    PoolShare,
    /// B-3: small clusters and namespaces have no allowance.
    ScopeAllowance,
    /// B-3: large clusters and namespaces have no share.
    ScopeShare,
    /// B-4: what was emptied by inferred removals is judged by number alone.
    EmptiedTrips,
    /// B-4: what was emptied by seen removals trips too.
    EmptiedOnlyIfInferred,
    /// B-5: expected losses count.
    ExpectedUncounted,
    /// B-6: every change of an affected host is held.
    HeldOnlyIfLosing,
    /// B-7: the baseline follows at once.
    WindowRemembers,
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_rule: Rule) -> bool {
    true
}

/// `ordering` as the rule says.
#[inline(always)]
pub(crate) fn ordered(rule: Rule, ordering: Ordering) -> Ordering {
    if on(rule) { ordering } else { ordering.reverse() }
}

#[cfg(test)]
pub(crate) use switch::{on, without};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static OFF: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    pub(crate) fn on(rule: Rule) -> bool {
        OFF.get() != Some(rule)
    }

    /// Runs `body` with one rule switched the wrong way on this thread.
    pub(crate) fn without<T>(rule: Rule, body: impl FnOnce() -> T) -> T {
        struct BackOn;
        impl Drop for BackOn {
            fn drop(&mut self) {
                OFF.set(None);
            }
        }
        let _back_on = BackOn;
        OFF.set(Some(rule));
        body()
    }
}
