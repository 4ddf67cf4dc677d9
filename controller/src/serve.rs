//! The gRPC listener: mutual TLS always, one identity per connection, bounded queues both ways.
//!
//! Streams → inputs of the core task, outputs of the core task → streams. Decides nothing: what a peer may do follows
//! from its certificate, everything else from the core. A peer that does not read fast enough loses its stream.

use std::time::Duration;

use roadstead_proto::tls::TlsMaterial;
use roadstead_proto::wire::agent_sync_server::AgentSyncServer;
use roadstead_proto::wire::edge_config_server::EdgeConfigServer;
use roadstead_proto::wire::peer_sync_server::PeerSyncServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::serve::streams::Streams;

pub mod core_task;
pub mod dial;
pub mod link;
pub mod streams;

/// Bytes of one received message. Senders stay below 1 MiB; one large object may exceed that.
const RECEIVED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Streams on one connection: a peer needs one, and another while it replaces the first.
const STREAMS_PER_CONNECTION_MAX: u32 = 16;
/// What a peer may send before we have read it: one large message at a time flows without waiting.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// A dead connection is noticed after one interval and one timeout, as fast as by our own heartbeats.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(4);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("--tls-cert, --tls-key or --tls-ca: not usable for TLS: {0}")]
    Tls(#[source] tonic::transport::Error),
    #[error("serve gRPC: {0}")]
    Serve(#[source] tonic::transport::Error),
}

/// A server that is not listening yet, so that unusable TLS files are found before anything starts.
pub fn builder(tls: &TlsMaterial) -> Result<Server, ServeError> {
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .tls_config(tls.server())
        .map_err(ServeError::Tls)
}

/// Serves agents, edges and peers until `stop`.
pub async fn run(
    mut server: Server,
    listener: TcpListener,
    streams: Streams,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    server
        .add_service(AgentSyncServer::new(streams.clone()).max_decoding_message_size(RECEIVED_BYTES_MAX))
        .add_service(EdgeConfigServer::new(streams.clone()).max_decoding_message_size(RECEIVED_BYTES_MAX))
        .add_service(PeerSyncServer::new(streams).max_decoding_message_size(RECEIVED_BYTES_MAX))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop.cancelled_owned())
        .await
        .map_err(ServeError::Serve)
}
