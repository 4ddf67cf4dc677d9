//! The link to a controller: dials the given controllers in turn over mTLS and carries messages both ways.
//!
//! Says nothing itself: what to send is [`crate::session`]'s part. Ends a connection when told to, and dials again with
//! full-jitter backoff for as long as the agent lives.

use std::time::Duration;

use roadstead_proto::tls::TlsMaterial;
use roadstead_proto::wire;
use roadstead_routing::limit::MESSAGE_BYTES_MAX;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};
use wire::agent_sync_client::AgentSyncClient;

use crate::backoff::Backoff;
use crate::complain::{self, Complaint};

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// From the call to the controller's acceptance of the stream.
const ACCEPT_MAX: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Messages that may wait for the network. More than the session ever has on its way at once, heartbeats included.
pub const QUEUE_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("--controller {url}: expected https://HOST:PORT; there is no plaintext")]
    Url { url: String },
    #[error("--tls-cert, --tls-key and --tls-ca cannot be used together: {0}")]
    Tls(String),
}

/// What happens to the link.
pub enum LinkEvent {
    /// A controller answers: messages sent here go to it, until `close` is cancelled or `Down` comes.
    Up {
        sender: mpsc::Sender<wire::AgentMessage>,
        close: CancellationToken,
    },
    Message(wire::ControllerMessage),
    Down,
}

/// The controllers to dial, checked.
pub struct Controllers(Vec<(String, Endpoint)>);

impl Controllers {
    /// # Errors
    /// If an address is no `https` URL, or the certificates do not fit together.
    pub fn new(urls: &[String], name: Option<&str>, tls: &TlsMaterial) -> Result<Self, StreamError> {
        let endpoint = |url: &String| {
            let invalid = || StreamError::Url { url: url.clone() };
            let uri: Uri = url.parse().map_err(|_| invalid())?;
            if uri.scheme_str() != Some("https") || uri.host().is_none() {
                return Err(invalid());
            }
            let endpoint = Endpoint::from(uri)
                .tls_config(tls.client_of(name))
                .map_err(|error| StreamError::Tls(complain::chain(&error)))?
                .connect_timeout(CONNECT_MAX)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEPALIVE_EVERY)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .keep_alive_while_idle(true);
            Ok((url.clone(), endpoint))
        };
        urls.iter().map(endpoint).collect::<Result<_, _>>().map(Self)
    }
}

/// Keeps a link until the receiver of `events` is gone.
pub async fn run(controllers: Controllers, events: mpsc::Sender<LinkEvent>) {
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut complaints: Vec<Complaint> = controllers.0.iter().map(|_| Complaint::default()).collect();
    loop {
        for ((url, endpoint), complaint) in controllers.0.iter().zip(&mut complaints) {
            let began = Instant::now();
            match converse(url, endpoint, &events).await {
                Ok(Ended { spoke, why }) => {
                    // A controller that greets and refuses us at once must not be dialled at once again.
                    if spoke && began.elapsed() >= RETRY_MAX {
                        backoff.reset();
                        complaint.settle();
                    }
                    if complaint.is_new(&why) {
                        tracing::warn!("The stream to controller {url} ended: {why}. Dialling again");
                    }
                }
                Err(Failure::Closed) => return,
                Err(Failure::Dial(why)) => {
                    if complaint.is_new(&why) {
                        tracing::warn!("Controller {url} cannot be reached: {why}. Trying again");
                    }
                }
            }
            backoff.wait().await;
        }
    }
}

/// A stream that was open for a while.
struct Ended {
    /// Whether the controller said anything.
    spoke: bool,
    why: String,
}

enum Failure {
    /// Nobody listens to us any more.
    Closed,
    Dial(String),
}

async fn converse(url: &str, endpoint: &Endpoint, events: &mpsc::Sender<LinkEvent>) -> Result<Ended, Failure> {
    let channel = endpoint.connect().await.map_err(|error| Failure::Dial(complain::chain(&error)))?;
    let (sender, outgoing) = mpsc::channel(QUEUE_MAX);
    let close = CancellationToken::new();
    // Before the call: a controller may wait for Hello before it accepts.
    let up = LinkEvent::Up { sender, close: close.clone() };
    events.send(up).await.map_err(|_| Failure::Closed)?;
    let call = Call { url, channel, outgoing, close };
    let ended = call.receive(events).await?;
    events.send(LinkEvent::Down).await.map_err(|_| Failure::Closed)?;
    Ok(ended)
}

/// One stream.
struct Call<'a> {
    url: &'a str,
    channel: Channel,
    outgoing: mpsc::Receiver<wire::AgentMessage>,
    close: CancellationToken,
}

impl Call<'_> {
    async fn receive(self, events: &mpsc::Sender<LinkEvent>) -> Result<Ended, Failure> {
        let Call { url, channel, outgoing, close } = self;
        let mut client = AgentSyncClient::new(channel).max_decoding_message_size(2 * MESSAGE_BYTES_MAX);
        let call = tokio::time::timeout(ACCEPT_MAX, client.sync(ReceiverStream::new(outgoing)));
        let mut incoming = match call.await {
            Err(_elapsed) => return Ok(Ended { spoke: false, why: format!("not accepted within {ACCEPT_MAX:?}") }),
            Ok(Err(status)) => return Ok(Ended { spoke: false, why: describe(&status) }),
            Ok(Ok(response)) => response.into_inner(),
        };
        let mut spoke = false;
        loop {
            let next = tokio::select! {
                next = incoming.message() => next,
                () = close.cancelled() => return Ok(Ended { spoke, why: "closed by the agent".to_owned() }),
            };
            match next {
                Ok(Some(message)) => {
                    if !spoke {
                        tracing::info!("Connected to controller {url}");
                    }
                    spoke = true;
                    events.send(LinkEvent::Message(message)).await.map_err(|_| Failure::Closed)?;
                }
                Ok(None) => return Ok(Ended { spoke, why: "closed by the controller".to_owned() }),
                Err(status) => return Ok(Ended { spoke, why: describe(&status) }),
            }
        }
    }
}

fn describe(status: &tonic::Status) -> String {
    let code = status.code();
    let cause =
        std::error::Error::source(status).map_or_else(String::new, |source| format!(": {}", complain::chain(source)));
    format!("{code:?}: {}{cause}", status.message())
}
