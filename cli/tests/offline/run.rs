//! Folders of manifests, and the binary over them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Makes every Ingress of class `roadstead` ours.
pub const CLASS: &str = "\
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: roadstead}
spec: {controller: roadstead.dev/ingress}
";

/// What a finished process said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Of JSON in the whole output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Of a line of JSON each.
    pub fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Runs `roadstead` with words and an input.
pub fn roadstead(words: &[&str], input: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    let streams = command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = streams.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let input = input.to_owned();
    // A process that ends early reads no further, and then this fails.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = process.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// A folder with files.
pub fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

/// `CLUSTER=DIR`.
pub fn cluster(id: &str, folder: &TempDir) -> String {
    format!("{id}={}", folder.path().display())
}

/// An Ingress in namespace `shop` of class `roadstead`: host, then `type path service` a line.
pub fn ingress(name: &str, host: &str, paths: &str) -> String {
    let mut text = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         ingressClassName: roadstead\n  rules:\n  - host: {host:?}\n    http:\n      paths:\n"
    );
    for line in paths.lines() {
        let [path_type, path, service] = line.split_whitespace().collect::<Vec<_>>().try_into().unwrap();
        let backend = format!("{{service: {{name: {service}, port: {{number: 80}}}}}}");
        writeln!(text, "      - {{path: {path:?}, pathType: {path_type}, backend: {backend}}}").unwrap();
    }
    text
}

/// A Service in namespace `shop` with ready pods, `ADDRESS` or `ADDRESS@ZONE` each.
pub fn service(name: &str, pods: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{ports: [{{port: 80}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  namespace: shop\n  \
         labels: {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\nports: [{{port: 8080}}]\nendpoints:\n"
    );
    for pod in pods {
        match pod.split_once('@') {
            Some((address, zone)) => {
                writeln!(text, "- {{addresses: [{address}], hints: {{forZones: [{{name: {zone}}}]}}}}").unwrap();
            }
            None => writeln!(text, "- {{addresses: [{pod}]}}").unwrap(),
        }
    }
    if pods.is_empty() { text.replace("endpoints:\n", "endpoints: []\n") } else { text }
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
