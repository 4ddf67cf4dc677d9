//! A running edge without a controller, endpoints that misbehave on demand, and a client that sees every byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roadstead_edge::health::Clock;
use roadstead_edge::listen::{self, Shared, Workers};
use roadstead_edge::observe::Metrics;
use roadstead_edge::proxy::Config;
use roadstead_edge::table::{CompiledHost, HostChange, LiveTable, TableWriter};
use roadstead_routing::endpoints::Locality;
use roadstead_routing::id::{BackendId, HostKey, ObjectName, PortRef};
use roadstead_routing::settings::{ClientSettings, UpstreamSettings};
use roadstead_routing::table::{Backend, Endpoint, Host, PathMatch, Route, RouteBackend, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An edge with a table that tests write.
pub struct Edge {
    pub address: SocketAddr,
    pub table: TableWriter,
    pub metrics: Arc<Metrics>,
    pub stop: CancellationToken,
    workers: Option<Workers>,
}

impl Edge {
    /// Two workers, nothing in the table yet, but complete.
    pub fn start() -> Self {
        Self::start_with(Config::default())
    }

    pub fn start_with(config: Config) -> Self {
        let edge = Self::start_without_table(config);
        edge.table.mark_complete();
        edge
    }

    pub fn start_in(region: &str) -> Self {
        let edge = Self::start_somewhere(Config::default(), region);
        edge.table.mark_complete();
        edge
    }

    pub fn start_without_table(config: Config) -> Self {
        Self::start_somewhere(config, "")
    }

    fn start_somewhere(config: Config, region: &str) -> Self {
        let listeners = listen::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let (table, metrics, stop) = (LiveTable::new(), Arc::new(Metrics::default()), CancellationToken::new());
        let clock = Clock::start();
        let shared = Shared { table: table.clone(), clock, config, metrics: metrics.clone(), stop: stop.clone() };
        let workers = Workers::start(listeners, &shared).unwrap();
        let table = TableWriter::new(table, Locality { region: Some(region.into()), ..Locality::default() });
        Self { address, table, metrics, stop, workers: Some(workers) }
    }

    /// Sends every path of `host` to these clusters: `(name, weight, addresses)`.
    pub fn serve(&mut self, host: &str, clusters: &[(&str, u32, &[SocketAddr])]) {
        for (cluster, _, addresses) in clusters {
            self.endpoints(cluster, addresses);
        }
        let targets = clusters.iter().map(|(cluster, weight, _)| (*cluster, *weight, Target::Backend(id(cluster))));
        self.serve_targets(host, targets.collect());
    }

    /// Sends every path of `host` to these targets.
    pub fn serve_targets(&mut self, host: &str, targets: Vec<(&str, u32, Target)>) {
        let host = host_of(host, targets);
        self.table.change_hosts(vec![HostChange::Put(Box::new(CompiledHost::new(host).unwrap()))]);
    }

    /// Sends every path of `host` to these clusters, as `change` would have it.
    pub fn serve_as(&mut self, host: &str, clusters: &[(&str, u32, &[SocketAddr])], change: impl FnOnce(&mut Route)) {
        for (cluster, _, addresses) in clusters {
            self.endpoints(cluster, addresses);
        }
        let targets = clusters.iter().map(|(cluster, weight, _)| (*cluster, *weight, Target::Backend(id(cluster))));
        let mut host = host_of(host, targets.collect());
        change(&mut host.routes[0]);
        self.table.change_hosts(vec![HostChange::Put(Box::new(CompiledHost::new(host).unwrap()))]);
    }

    /// As [`Edge::serve_as`], with one cluster and these settings of the client's leg.
    pub fn serve_client(&mut self, host: &str, pod: &Pod, client: ClientSettings) {
        self.serve_as(host, &[("eu", 100, &[pod.address])], |route| route.client = client.into());
    }

    /// As [`Edge::serve_as`], with one cluster and these settings of the upstream leg.
    pub fn serve_upstream(&mut self, host: &str, addresses: &[SocketAddr], upstream: UpstreamSettings) {
        self.serve_as(host, &[("eu", 100, addresses)], |route| route.backends[0].upstream = upstream.into());
    }

    /// Replaces the addresses of a cluster.
    pub fn endpoints(&mut self, cluster: &str, addresses: &[SocketAddr]) {
        self.table.put_backend(&backend(cluster, addresses));
    }

    pub async fn stopped(mut self) {
        self.stop.cancel();
        let workers = self.workers.take().unwrap();
        tokio::time::timeout(PATIENCE, workers.ended()).await.expect("workers must end").unwrap();
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn id(cluster: &str) -> BackendId {
    BackendId { cluster: cluster.into(), service: ObjectName::new("shop", "web"), port: PortRef::Number(80) }
}

pub fn backend(cluster: &str, addresses: &[SocketAddr]) -> Backend {
    let endpoints = addresses.iter().map(|address| Endpoint { address: *address, for_zones: Vec::new() });
    Backend { endpoints: endpoints.collect(), ..Backend::empty(id(cluster)) }
}

pub fn host_of(host: &str, targets: Vec<(&str, u32, Target)>) -> Host {
    let backends = targets.into_iter().map(|(cluster, weight, target)| {
        RouteBackend::new(cluster.into(), weight, target, ObjectName::new("shop", "web"))
    });
    let routes = vec![Route::new(PathMatch::Prefix("".into()), backends.collect())];
    Host { routes, ..Host::new("public".into(), HostKey::parse(host).unwrap()) }
}

/// A request as an endpoint saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Counts the endpoint's connections from 0.
    pub connection: usize,
    /// Counts the requests of the connection from 0.
    pub request: usize,
    /// Request line and headers, without the empty line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// All values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        header_values(&self.head, name)
    }
}

/// What an endpoint does with a request.
pub enum Act {
    Reply(Vec<u8>),
    ReplyAndClose(Vec<u8>),
    /// Closes without a byte.
    Close,
    /// Never answers.
    Hang,
    /// Answers with the first part at once and with the second when notified.
    ReplyInParts(Vec<u8>, Arc<Notify>, Vec<u8>),
    /// Answers, then sends back what it receives.
    Echo(Vec<u8>),
}

/// An endpoint on loopback.
pub struct Pod {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Pod {
    /// Answers 200 with this body to everything.
    pub async fn saying(body: &'static str) -> Self {
        Self::start(move |_| Act::Reply(ok(body))).await
    }

    pub async fn start(act: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), act)
    }

    pub fn on(listener: TcpListener, act: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (seeing, act) = (seen.clone(), Arc::new(act));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(converse(stream, connection, seeing.clone(), act.clone()));
            }
        });
        Self { address, seen, task }
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Closes the listener and all connections at once.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

async fn converse(
    mut stream: TcpStream,
    connection: usize,
    seeing: Arc<Mutex<Vec<Seen>>>,
    act: Arc<impl Fn(&Seen) -> Act>,
) {
    let mut buffer = Vec::new();
    for request in 0.. {
        let Some((head, body)) = read_message(&mut stream, &mut buffer, Expect::Request).await else { return };
        let seen = Seen { connection, request, head, body };
        let action = act(&seen);
        seeing.lock().unwrap().push(seen);
        match action {
            Act::Reply(bytes) => stream.write_all(&bytes).await.unwrap(),
            Act::ReplyAndClose(bytes) => return stream.write_all(&bytes).await.unwrap(),
            Act::Close => return,
            Act::Hang => std::future::pending().await,
            Act::ReplyInParts(first, go_on, second) => {
                stream.write_all(&first).await.unwrap();
                go_on.notified().await;
                stream.write_all(&second).await.unwrap();
            }
            Act::Echo(bytes) => {
                stream.write_all(&bytes).await.unwrap();
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                return;
            }
        }
    }
}

/// A 200 with this body.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// One client connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response as the client saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header_values(&self.head, name).first().copied()
    }

    /// The value of the cookie that it sets, without its attributes.
    pub fn cookie(&self) -> Option<&str> {
        self.header("set-cookie")?.split(';').next()?.split_once('=').map(|(_, value)| value)
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next response; `None` if the connection ends before one.
    pub async fn reply(&mut self) -> Option<Reply> {
        self.reply_to(Expect::Response).await
    }

    pub async fn reply_to(&mut self, expect: Expect) -> Option<Reply> {
        let reading = read_message(&mut self.stream, &mut self.buffer, expect);
        let (head, body) = tokio::time::timeout(PATIENCE, reading).await.expect("a response must come")?;
        Some(Reply { head, body })
    }

    /// Sends a request and returns its response.
    pub async fn send(&mut self, request: impl AsRef<[u8]>) -> Reply {
        self.write(request).await;
        self.reply().await.expect("the connection must not end before the response")
    }

    /// Whether the edge closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        assert!(self.buffer.is_empty(), "unread: {:?}", String::from_utf8_lossy(&self.buffer));
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut byte)).await;
        matches!(read.expect("the connection must end"), Ok(0) | Err(_))
    }

    /// Everything received so far that no reply has taken, when at least `length` bytes of it are there.
    pub async fn received(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            let reading = more(&mut self.stream, &mut self.buffer);
            tokio::time::timeout(PATIENCE, reading)
                .await
                .expect("bytes must come")
                .expect("the connection must not end");
        }
        std::mem::take(&mut self.buffer)
    }
}

/// One GET on a connection of its own.
pub async fn get(edge: SocketAddr, host: &str, target: &str) -> Reply {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    Client::connect(edge).await.send(request).await
}

/// One GET with these further fields, each ended by CR and LF.
pub async fn get_with(edge: SocketAddr, host: &str, target: &str, fields: &str) -> Reply {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    Client::connect(edge).await.send(request).await
}

/// Polls until `condition` holds.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How to find the end of a message.
#[derive(Clone, Copy, PartialEq)]
pub enum Expect {
    Request,
    Response,
    /// Of a HEAD request: no body whatever the headers say.
    HeadResponse,
}

/// A message's head (without the empty line) and decoded body; `None` if the stream ends before a whole one.
async fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>, expect: Expect) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    buffer.drain(..end + 4);
    let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).unwrap_or(0);
    let bodyless = expect == Expect::HeadResponse || matches!(status, 100..200 | 204 | 304);
    if expect != Expect::Request && bodyless {
        return Some((head, Vec::new()));
    }
    if header_values(&head, "transfer-encoding") == ["chunked"] {
        let body = read_chunks(stream, buffer).await?;
        return Some((head, body));
    }
    if let Some(length) = header_values(&head, "content-length").first() {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length {
            more(stream, buffer).await?;
        }
        return Some((head, buffer.drain(..length).collect()));
    }
    if expect == Expect::Request {
        return Some((head, Vec::new()));
    }
    while more(stream, buffer).await.is_some() {}
    Some((head, std::mem::take(buffer)))
}

async fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(2).position(|window| window == b"\r\n") {
                break end;
            }
            more(stream, buffer).await?;
        };
        let size = usize::from_str_radix(std::str::from_utf8(&buffer[..end]).unwrap(), 16).unwrap();
        while buffer.len() < end + 2 + size + 2 {
            more(stream, buffer).await?;
        }
        body.extend_from_slice(&buffer[end + 2..end + 2 + size]);
        buffer.drain(..end + 2 + size + 2);
        if size == 0 {
            return Some(body);
        }
    }
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

fn header_values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}
