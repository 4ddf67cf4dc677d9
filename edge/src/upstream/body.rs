//! The body of a request on its way to an endpoint.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the next part of the body did not come in time")]
    Stalled,
}

/// When a request last moved: what an endpoint is given to answer counts from here, so that a long upload is not
/// taken for a slow endpoint.
#[derive(Clone, Debug)]
pub struct Progress(Rc<Moves>);

#[derive(Debug)]
struct Moves {
    last: Cell<Instant>,
    is_sending: Cell<bool>,
    is_too_large: Cell<bool>,
}

impl Progress {
    pub fn start() -> Self {
        let moves = Moves { last: Instant::now().into(), is_sending: false.into(), is_too_large: false.into() };
        Self(Rc::new(moves))
    }

    pub fn last(&self) -> Instant {
        self.0.last.get()
    }

    pub fn moved(&self) {
        self.0.last.set(Instant::now());
    }

    /// Whether a part of the body is still to come.
    pub fn is_sending(&self) -> bool {
        self.0.is_sending.get()
    }

    /// Whether the body turned out to be larger than allowed.
    pub fn is_too_large(&self) -> bool {
        self.0.is_too_large.get()
    }
}

/// Streams the client's body, or is empty.
pub enum RequestBody {
    Empty,
    Streaming { body: Incoming, progress: Progress, bytes_left: u64 },
}

impl RequestBody {
    pub fn streaming(body: Incoming, progress: &Progress) -> Self {
        progress.0.is_sending.set(true);
        RequestBody::Streaming { body, progress: progress.clone(), bytes_left: u64::MAX }
    }

    /// Whether it is known to have more bytes than this. If it turns out so later, the body fails.
    pub fn exceeds(&mut self, bytes_max: u64) -> bool {
        match self {
            RequestBody::Empty => false,
            RequestBody::Streaming { body, bytes_left, .. } => {
                *bytes_left = bytes_max;
                body.size_hint().lower() > bytes_max
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let RequestBody::Streaming { body, progress, bytes_left } = self.get_mut() else { return Poll::Ready(None) };
        progress.moved();
        let polled = Pin::new(&mut *body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, |data| data.remaining() as u64);
            let Some(left) = bytes_left.checked_sub(length) else {
                progress.0.is_too_large.set(true);
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            };
            *bytes_left = left;
        }
        // One without an announced length does not know its end before it has said so.
        if matches!(polled, Poll::Ready(None)) || body.is_end_stream() {
            progress.0.is_sending.set(false);
        }
        polled.map_err(BodyError::Http)
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
