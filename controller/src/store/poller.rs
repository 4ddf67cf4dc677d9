//! The task that talks to the store once a second, apart from the writer: a long commit must not make this replica look
//! gone. Beats of the core → [`Store::beat`] → news for the core.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::store::{Beat, News, Store};

/// Runs until the core ends. While the database is away nothing is said: peers go on telling each other.
pub async fn run<S: Store>(store: Arc<S>, mut beats: mpsc::Receiver<Beat>, news: mpsc::Sender<News>) {
    let mut is_away = false;
    while let Some(beat) = beats.recv().await {
        match store.beat(&beat).await {
            Ok(it) => {
                if std::mem::take(&mut is_away) {
                    tracing::info!("The database answers again");
                }
                if news.send(it).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(%error, "The database does not say what other replicas wrote");
                }
            }
        }
    }
}
