//! `roadstead explain`: requests → what an edge with a table of these manifests would do, with reasons.
//!
//! One request of the command line → text or JSON; with `--batch`, lines of JSON → lines of JSON, one by one. The
//! table is built once by [`World`], and [`Explainer`] keeps what it compiles of it.

use std::io::{self, BufRead, Read, Write};

use roadstead_routing::id::PoolName;
use roadstead_routing::policy::Policy;

use super::args::Explain;
use super::assumed::assume_ready;
use super::manifests::{Manifests, STDIN};
use super::request::{Request, Scheme, Url};
use super::world::World;
use super::{OfflineError, Outcome, now, policy, printable, warn};

mod answer;
mod explainer;
mod leg;
mod place;
mod show;
mod why;

use explainer::{Explainer, Where};
pub use place::{canonical, path_type};

/// Bytes of one line of a batch.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// The class that the policy lists if there is no file.
const CLASSES: [&str; 1] = ["roadstead"];

/// # Errors
/// If an input or the command line is of no use.
pub fn run(args: Explain, json: bool) -> Result<Outcome, OfflineError> {
    let stdin_uses = args.manifests.iter().filter(|it| it.path.as_os_str() == STDIN).count() + usize::from(args.batch);
    if stdin_uses > 1 {
        return Err(OfflineError::Usage(
            "stdin can be read once: for one cluster's manifests or for --batch".to_owned(),
        ));
    }
    let request = args.url.as_deref().map(|url| request(url, &args)).transpose()?;
    let policy = policy::read(args.policy.as_deref(), &CLASSES)?;
    let pool = pool(&policy, args.pool.as_deref())?;
    let mut clusters: Vec<_> = Vec::new();
    let mut skipped = Vec::new();
    for cluster in args.manifests {
        let mut manifests = Manifests::default();
        manifests.read(&cluster.path)?;
        skipped.append(&mut manifests.skipped);
        clusters.push((cluster.id, manifests));
    }
    warn(&skipped);
    if args.strict && !skipped.is_empty() {
        return Ok(Outcome::NotStrict);
    }
    if args.assume_ready {
        assume_ready(&mut clusters);
    }
    let world = World::new(policy, clusters, now());
    let at = Where { pool, zone: args.zone.as_deref().map(Into::into), region: args.region.as_deref().map(Into::into) };
    let mut explainer = Explainer::new(&world, at);
    let mut output = io::stdout().lock();
    match request {
        None => batch(&mut explainer, io::stdin().lock(), &mut output)?,
        Some(request) => {
            let answer = explainer.answer(&request).map_err(OfflineError::Usage)?;
            let text = if json { format!("{}\n", line(&answer)) } else { printable(&show::text(&request, &answer)) };
            output.write_all(text.as_bytes())?;
        }
    }
    Ok(Outcome::Done)
}

fn request(url: &str, args: &Explain) -> Result<Request, OfflineError> {
    let usage = |why| OfflineError::Usage(why);
    let Url { scheme, host, target } = url.parse().map_err(usage)?;
    let (hosts, headers): (Vec<_>, Vec<_>) =
        args.headers.iter().partition(|header| header.name.eq_ignore_ascii_case("host"));
    let host = hosts.last().map_or(host, |header| header.value.clone());
    let scheme = args.scheme.or(scheme).or(args.sni.as_ref().map(|_| Scheme::Https)).unwrap_or(Scheme::Http);
    // A browser asks for the certificate of the host it goes to.
    let sni = args.sni.clone().or_else(|| (scheme == Scheme::Https).then(|| host.clone()));
    Ok(Request {
        host,
        path: target,
        method: Some(args.method.clone()),
        headers: Some(headers.into_iter().map(|header| (header.name.clone(), header.value.clone())).collect()),
        sni,
        scheme: Some(scheme),
        pool: None,
        zone: None,
    })
}

/// The pool of requests that name none. `None`: each must.
fn pool(policy: &Policy, named: Option<&str>) -> Result<Option<PoolName>, OfflineError> {
    let Some(name) = named else { return Ok(policy.default_pool().cloned()) };
    let pool = PoolName::from(name);
    if policy.pools.contains_key(&pool) {
        return Ok(Some(pool));
    }
    Err(OfflineError::Usage(format!("--pool {pool}: the policy has no such pool")))
}

/// Answers each line as soon as it is read. A line that is no request is answered with what is wrong.
fn batch(explainer: &mut Explainer<'_>, mut input: impl BufRead, output: &mut impl Write) -> Result<(), OfflineError> {
    loop {
        let Some(read) = next_line(&mut input).map_err(|error| OfflineError::Input(format!("stdin: {error}")))? else {
            return Ok(());
        };
        if read.trim_ascii().is_empty() {
            continue;
        }
        let answer = if read.len() > LINE_BYTES_MAX {
            Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"))
        } else {
            Request::from_json(&read).and_then(|request| explainer.answer(&request))
        };
        let answer = answer.map_or_else(|error| line(&answer::Wrong { error }), |answer| line(&answer));
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
}

/// A line without its end; of one that is too long only so much that this shows. `None`: there are no more.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let max = LINE_BYTES_MAX as u64 + 1;
    if input.take(max).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() > LINE_BYTES_MAX && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

fn line(answer: &impl serde::Serialize) -> String {
    serde_json::to_string(answer).expect("an answer must have text for keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_ends_where_it_ends() {
        let long = "x".repeat(LINE_BYTES_MAX * 2);
        let mut input = io::BufReader::new(io::Cursor::new(format!("a\n{long}\nb")));
        assert_eq!(next_line(&mut input).unwrap().unwrap(), b"a\n");
        assert!(next_line(&mut input).unwrap().unwrap().len() > LINE_BYTES_MAX);
        assert_eq!(next_line(&mut input).unwrap().unwrap(), b"b");
        assert!(next_line(&mut input).unwrap().is_none());
    }
}
