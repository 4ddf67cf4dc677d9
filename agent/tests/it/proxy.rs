//! Between the agent and the API server: sees or changes what is asked, takes TLS off, or falls silent.

use std::net::SocketAddr;
use std::sync::Arc;

use roadstead_proto::tls::TlsFiles;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    silences: watch::Sender<u64>,
}

/// Looks at, and may change, bytes on their way to the server.
type Pass = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

impl Proxy {
    pub(crate) async fn start(
        api: SocketAddr,
        tls: Option<&TlsFiles>,
        pass: impl Fn(&mut [u8]) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, pass): (_, Pass) = (tls.map(acceptor), Arc::new(pass));
        let silences = watch::Sender::new(0);
        let silenced = silences.subscribe();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, pass, mut silenced) = (acceptor.clone(), Arc::clone(&pass), silenced.clone());
                silenced.mark_unchanged();
                tokio::spawn(async move {
                    let server = TcpStream::connect(api).await.unwrap();
                    match acceptor {
                        Some(acceptor) => {
                            let client = acceptor.accept(socket).await.unwrap();
                            forward(client, server, &pass, silenced).await;
                        }
                        None => forward(socket, server, &pass, silenced).await,
                    }
                });
            }
        });
        Self { address, silences }
    }

    /// Every connection there is stays open, but nothing passes on it any more.
    pub(crate) fn silence(&self) {
        self.silences.send_modify(|count| *count += 1);
    }
}

fn acceptor(tls: &TlsFiles) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(&tls.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&tls.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Until either side closes.
async fn forward(
    client: impl AsyncRead + AsyncWrite,
    server: TcpStream,
    pass: &Pass,
    mut silenced: watch::Receiver<u64>,
) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            pass(&mut buffer[..count]);
            if to_server.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = up => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        Ok(()) = silenced.changed() => std::future::pending().await,
    }
}
