//! The command line as it is written: commands, flags, and what each means to whoever asks for help.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};
use roadstead_api::{REVISIONS_SHOWN, REVISIONS_SHOWN_MAX};

use crate::duration;
use crate::offline::args as offline;

/// Asks and instructs a Roadstead controller; reads manifests without one.
#[derive(Parser, Debug)]
#[command(name = "roadstead", version)]
pub struct Cli {
    /// The controller's --api-listen.
    #[arg(long, global = true, env = "ROADSTEAD_API", default_value = "http://127.0.0.1:9780", value_name = "URL")]
    pub api: String,
    /// The controller's --api-token-file.
    #[arg(long, global = true, env = "ROADSTEAD_API_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Subcommand, Debug)]
pub enum Task {
    #[command(flatten)]
    Ask(Command),
    Explain(offline::Explain),
    Migrate(offline::Migrate),
}

/// What the controller is asked.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Which clusters there are, where they stand, and whether their agents report.
    Clusters,
    /// Say where a cluster stands in its life.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Which edges there are and whether they have everything.
    Edges,
    /// Which pools there are.
    Pools,
    /// Problems that somebody should look at.
    Findings,
    /// What is wrong with the whole and needs a person.
    Alerts,
    /// Controllers that are there.
    Replicas,
    /// Changes that wait for a decision.
    Holds {
        #[command(subcommand)]
        action: Option<Holds>,
    },
    /// Announce that a cluster or namespace is about to lose Ingresses, so that the guard lets it happen.
    ExpectRemoval {
        #[arg(long, value_name = "ID")]
        cluster: String,
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
        #[command(flatten)]
        terms: Terms,
    },
    /// Stop every change of hosts at a pool's edges; endpoints go on changing.
    Freeze {
        /// All pools if absent.
        pool: Option<String>,
        #[command(flatten)]
        terms: Terms,
    },
    /// End the freezes of a pool, or those of all pools at once.
    Unfreeze {
        /// The pool that was named to `freeze`.
        pool: Option<String>,
    },
    /// Earlier versions of a host, newest first.
    History {
        #[command(flatten)]
        host: Host,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = REVISIONS_SHOWN, value_parser = clap::value_parser!(u32).range(1..=i64::from(REVISIONS_SHOWN_MAX)))]
        limit: u32,
    },
    /// Make a host keep an earlier version, whatever its objects say. `overrides lift` ends it early.
    Pin {
        #[command(flatten)]
        host: Host,
        /// The number that `history` shows.
        revision: i64,
        #[command(flatten)]
        terms: Terms,
    },
    /// Changes that one edge of a pool tries first.
    #[command(subcommand)]
    Canary(Canary),
    /// Expected removals, freezes and pins that are in force.
    Overrides {
        #[command(subcommand)]
        action: Option<Overrides>,
    },
    /// Which world the database holds.
    World,
    /// Make edges follow this database that know more than it does, or have the table of another world.
    AdoptWorld {
        /// The other world, as the alert `other-world` names it. Absent: an older backup of this one was put back.
        #[arg(long, value_name = "UUID")]
        world: Option<String>,
        /// Also if some clusters have not reported everything yet.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        who: Who,
    },
}

#[derive(Subcommand, Debug)]
pub enum Cluster {
    /// Show them, as `clusters` does.
    List,
    /// Send requests to it, at once or step by step.
    Activate {
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        over: Over,
    },
    /// Take requests away from it, at once or step by step. It is drained once every edge knows.
    Drain {
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        over: Over,
        #[command(flatten)]
        force: Force,
    },
    /// Call a draining cluster drained without waiting for edges that cannot be asked.
    FinishDrain {
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        force: Force,
    },
    /// Say that it is switched off. Its hosts keep their place.
    Offline {
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        force: Force,
    },
    /// Say that it does not come back. What only it served is gone; its objects are forgotten after a day.
    Remove {
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        force: Force,
    },
    /// Let it begin again, as joining: it reports, and gets no requests until it is activated.
    Rejoin {
        #[command(flatten)]
        change: Change,
    },
    /// Say that it was rebuilt: from now on its identity belongs to the cluster with this uid.
    Readopt {
        #[command(flatten)]
        id: Id,
        /// Of namespace kube-system, as the finding `cluster-identity` names it.
        #[arg(long, value_name = "UID")]
        uid: String,
        #[command(flatten)]
        who: Who,
    },
}

#[derive(Subcommand, Debug)]
pub enum Holds {
    /// Show them.
    List,
    /// Let the held changes go.
    Approve {
        id: String,
        #[command(flatten)]
        who: Who,
    },
    /// Close the Hold; its hosts keep their routes until their objects change again.
    Discard {
        id: String,
        #[command(flatten)]
        who: Who,
    },
}

#[derive(Subcommand, Debug)]
pub enum Overrides {
    /// Show them.
    List,
    /// End one before its time.
    Lift { id: String },
}

#[derive(Subcommand, Debug)]
pub enum Canary {
    /// Send it to all edges of the pool.
    Release {
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        pool: String,
        #[command(flatten)]
        who: Who,
    },
}

#[derive(Args, Debug)]
pub struct Id {
    /// The cluster.
    #[arg(value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub id: String,
}

#[derive(Args, Debug)]
pub struct Change {
    #[command(flatten)]
    pub id: Id,
    /// Why, for whoever finds it.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub who: Who,
}

#[derive(Args, Debug)]
pub struct Over {
    /// How long it takes, step by step: 90s, 30m, 2h, 1d; at most 1d. Absent: at once.
    #[arg(long = "over", value_name = "DURATION", value_parser = duration::parse)]
    pub seconds: Option<u64>,
}

#[derive(Args, Debug)]
pub struct Force {
    /// Also if some hosts have no backend without it.
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct Host {
    /// As the Ingress has it, such as shop.example.com or *.example.com.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub host: String,
    /// The default pool if absent, or the only one.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub pool: Option<String>,
}

#[derive(Args, Debug)]
pub struct Terms {
    /// How long: 90s, 30m, 2h, 1d; at most 7d.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    pub for_seconds: u64,
    /// Why, for whoever finds it.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub who: Who,
}

#[derive(Args, Debug)]
pub struct Who {
    /// Who asks.
    #[arg(long, env = "USER", default_value = "unknown", value_name = "NAME")]
    pub by: String,
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser};

    use super::*;

    fn parse(line: &str) -> Result<Command, ErrorKind> {
        let words = std::iter::once("roadstead").chain(line.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.kind())?.task {
            Task::Ask(command) => Ok(command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_drain_says_how_long_whether_anyway_and_why() {
        let parsed = parse("cluster drain eu --over 10m --force --reason x --by me").unwrap();
        let Command::Cluster(Cluster::Drain { change, over, force }) = parsed else { panic!("{parsed:?}") };
        assert_eq!((change.id.id.as_str(), over.seconds, force.force), ("eu", Some(600), true));
        assert_eq!((change.reason.as_str(), change.who.by.as_str()), ("x", "me"));
        assert_eq!(parse("cluster drain eu").unwrap_err(), ErrorKind::MissingRequiredArgument, "a reason");
        assert_eq!(parse("cluster drain --reason x").unwrap_err(), ErrorKind::MissingRequiredArgument, "a cluster");
        assert_eq!(parse("cluster drain eu --reason x --over 10").unwrap_err(), ErrorKind::ValueValidation);
    }

    #[test]
    fn only_steps_take_time_and_only_what_takes_away_is_forced() {
        for (command, over, force) in [
            ("activate", true, false),
            ("drain", true, true),
            ("finish-drain", false, true),
            ("offline", false, true),
            ("remove", false, true),
            ("rejoin", false, false),
        ] {
            let line = format!("cluster {command} eu --reason x");
            assert!(parse(&line).is_ok(), "{line}");
            assert_eq!(parse(&format!("{line} --over 1m")).is_ok(), over, "{line}");
            assert_eq!(parse(&format!("{line} --force")).is_ok(), force, "{line}");
        }
    }

    #[test]
    fn a_pin_names_host_revision_and_terms() {
        let parsed = parse("pin *.example.com 7 --for 2h --reason x --pool public").unwrap();
        let Command::Pin { host, revision, terms } = parsed else { panic!("{parsed:?}") };
        assert_eq!((host.host.as_str(), host.pool.as_deref(), revision), ("*.example.com", Some("public"), 7));
        assert_eq!(terms.for_seconds, 7_200);
        assert_eq!(parse("pin a.example.com --for 2h --reason x").unwrap_err(), ErrorKind::MissingRequiredArgument);
        assert_eq!(parse("pin a.example.com one --for 2h --reason x").unwrap_err(), ErrorKind::ValueValidation);
    }

    #[test]
    fn a_history_is_as_long_as_the_api_allows() {
        let limit = |line: &str| match parse(line)? {
            Command::History { limit, .. } => Ok(limit),
            other => panic!("{other:?}"),
        };
        assert_eq!(limit("history a.example.com"), Ok(REVISIONS_SHOWN));
        assert_eq!(limit("history a.example.com --limit 200"), Ok(200));
        assert_eq!(limit("history a.example.com --limit 201"), Err(ErrorKind::ValueValidation));
        assert_eq!(limit("history a.example.com --limit 0"), Err(ErrorKind::ValueValidation));
    }

    #[test]
    fn every_command_takes_json() {
        for line in [
            "clusters",
            "cluster list",
            "cluster readopt eu --uid u",
            "world",
            "adopt-world --force",
            "alerts",
            "replicas",
            "pools",
            "history a.example.com",
            "pin a.example.com 1 --for 1h --reason x",
            "canary release public",
        ] {
            let words = ["roadstead"].into_iter().chain(line.split_whitespace()).chain(["--json"]);
            assert!(Cli::try_parse_from(words).is_ok_and(|cli| cli.json), "{line}");
        }
    }
}
