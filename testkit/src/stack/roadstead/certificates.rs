//! Certificates of one stack, made by `roadstead-controller ca` as an operator would.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};

/// The files of one identity, as the flags `--tls-cert`, `--tls-key` and `--tls-ca` take them.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

impl CertificateFiles {
    /// The three flags with their values.
    pub(super) fn flags(&self) -> Vec<String> {
        let pairs = [("--tls-cert", &self.certificate), ("--tls-key", &self.key), ("--tls-ca", &self.authority)];
        pairs.into_iter().flat_map(|(flag, path)| [flag.to_owned(), path.display().to_string()]).collect()
    }
}

/// A certificate authority in a folder.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    controller: PathBuf,
    folder: PathBuf,
}

impl Authority {
    /// Makes a new authority, or goes on with the one that `folder` holds already.
    pub(super) async fn open(controller: &Path, folder: &Path) -> anyhow::Result<Self> {
        let authority = Self { controller: controller.to_owned(), folder: folder.to_owned() };
        if !folder.join("ca.pem").is_file() {
            authority.run(&["ca", "init", "--dir", &folder.display().to_string()]).await?;
        }
        Ok(authority)
    }

    /// A certificate for `identity` in a folder of its own. `names` are further arguments of `ca issue`.
    pub(super) async fn issue(&self, identity: &str, names: &[&str]) -> anyhow::Result<CertificateFiles> {
        // A folder of its own each time: certificates are never overwritten.
        let issued = self.folder.join("issued");
        std::fs::create_dir_all(&issued).with_context(|| format!("create {}", issued.display()))?;
        let prefix = format!("{}-", identity.replace('/', "-"));
        let out = tempfile::Builder::new().prefix(&prefix).tempdir_in(&issued).context("make a folder")?.keep();
        let (folder, out_text) = (self.folder.display().to_string(), out.display().to_string());
        let mut arguments = vec!["ca", "issue", "--dir", &folder, "--identity", identity, "--out", &out_text];
        arguments.extend(names);
        self.run(&arguments).await.with_context(|| format!("issue a certificate for {identity}"))?;
        Ok(CertificateFiles {
            certificate: out.join("tls.crt"),
            key: out.join("tls.key"),
            authority: out.join("ca.crt"),
        })
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = tokio::process::Command::new(&self.controller);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("start {}", self.controller.display()))?;
        if !output.status.success() {
            bail!("roadstead-controller {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}
