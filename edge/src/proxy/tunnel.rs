//! Upgraded connections (WebSocket and others, rule P-7): bytes go both ways until one side ends.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::gauge::Gauge;

/// Waits until both sides have switched and copies until both have ended, or one has failed.
pub(super) async fn join(client: OnUpgrade, upstream: OnUpgrade, tunnels: Gauge) {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "Upgrade failed");
            return;
        }
    };
    tunnels.inc();
    let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await;
    tunnels.dec();
    if let Err(error) = copied {
        tracing::debug!(%error, "Upgraded connection failed");
    }
}
