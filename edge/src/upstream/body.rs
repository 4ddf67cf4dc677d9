//! The body of a request on its way to an endpoint.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

/// When a request last moved: what an endpoint is given to answer counts from here, so that a long upload is not
/// taken for a slow endpoint.
#[derive(Clone, Debug)]
pub struct Progress(Rc<Cell<Instant>>);

impl Progress {
    pub fn start() -> Self {
        Self(Rc::new(Cell::new(Instant::now())))
    }

    pub fn last(&self) -> Instant {
        self.0.get()
    }

    pub fn moved(&self) {
        self.0.set(Instant::now());
    }
}

/// Streams the client's body, or is empty.
pub enum RequestBody {
    Empty,
    Streaming { body: Incoming, progress: Progress },
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Streaming { body, progress } => {
                progress.moved();
                Pin::new(body).poll_frame(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Streaming { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Streaming { body, .. } => body.size_hint(),
        }
    }
}
