//! Connections to other replicas: the set that the core names → one stream to each, dialled again for as long as it is
//! named. Decides nothing; what is said on the streams comes from the core.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use roadstead_proto::tls::TlsMaterial;
use roadstead_proto::wire::peer_sync_client::PeerSyncClient;
use roadstead_routing::limit::MESSAGE_BYTES_MAX;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::core::message::Input;
use crate::serve::core_task::Command;
use crate::serve::link::{Link, PEER_QUEUE_MAX};
use crate::serve::streams::Streams;
use crate::store::ReplicaRow;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// How peers are reached.
#[derive(Clone)]
pub struct Dialler {
    pub streams: Streams,
    pub tls: Arc<TlsMaterial>,
    /// What to expect in a peer's certificate where it is not the host of its address.
    pub name: Option<String>,
}

/// Runs until the core ends.
pub async fn run(dialler: Dialler, mut wanted: watch::Receiver<Vec<ReplicaRow>>) {
    let mut running: BTreeMap<(String, String), AbortHandle> = BTreeMap::new();
    loop {
        let now: Vec<ReplicaRow> = wanted.borrow_and_update().clone();
        let is_wanted =
            |(id, address): &(String, String)| now.iter().any(|row| row.id == *id && row.address == *address);
        running.retain(|key, task| {
            let keep = is_wanted(key);
            if !keep {
                task.abort();
            }
            keep
        });
        for row in now {
            let dialler = dialler.clone();
            running
                .entry((row.id.clone(), row.address.clone()))
                .or_insert_with(|| tokio::spawn(dialler.keep(row)).abort_handle());
        }
        if wanted.changed().await.is_err() {
            running.values().for_each(AbortHandle::abort);
            return;
        }
    }
}

impl Dialler {
    /// One stream after the other.
    async fn keep(self, replica: ReplicaRow) {
        let (mut attempt, mut said) = (0u32, String::new());
        loop {
            match self.once(&replica).await {
                Ok(()) => attempt = 0,
                Err(reason) => {
                    attempt = (attempt + 1).min(16);
                    if reason != said {
                        tracing::warn!(
                            replica = replica.id,
                            address = replica.address,
                            reason,
                            "Another replica cannot be reached"
                        );
                        said = reason;
                    }
                }
            }
            let ceiling = RETRY_MAX.min(RETRY_MIN * 2u32.saturating_pow(attempt));
            let pause = rand::rng().random_range(RETRY_MIN / 2..=ceiling);
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, replica: &ReplicaRow) -> Result<(), String> {
        let channel = self.channel(&replica.address).await?;
        let mut client = PeerSyncClient::new(channel).max_decoding_message_size(2 * MESSAGE_BYTES_MAX);
        let (sender, receiver) = mpsc::channel(PEER_QUEUE_MAX);
        // Ends of streams are not said to a server: it sees the stream end.
        let messages = ReceiverStream::new(receiver).map_while(Result::ok);
        let answers = client.sync(messages).await.map_err(|status| status.message().to_owned())?.into_inner();
        let (stream, over) = (self.streams.next(), CancellationToken::new());
        let link = Link::new(sender, over.clone());
        let open = Command::OpenReport { stream, replica: replica.id.clone(), link };
        self.streams.tell(open).await.map_err(|status| status.message().to_owned())?;
        let to_input = move |message| Input::Report { stream, message };
        self.streams.reader(over).run(answers, to_input, Input::ReportClosed { stream }).await;
        Ok(())
    }

    async fn channel(&self, address: &str) -> Result<Channel, String> {
        let uri = format!("https://{address}").parse().map_err(|_| format!("{address} is no address"))?;
        let config = self.tls.client_of(self.name.as_deref());
        let endpoint = Channel::builder(uri).tls_config(config).map_err(|error| error.to_string())?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        endpoint.connect().await.map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))
    }
}
