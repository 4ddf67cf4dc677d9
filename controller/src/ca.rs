//! `roadstead-controller ca`: an authority and leaf certificates for development and small installations.
//!
//! Files in, files out; nothing is ever overwritten, and keys are readable by their owner only. Names of the leaf's
//! files are those of a Kubernetes TLS Secret. Knows nothing of the rest of the controller.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use roadstead_proto::identity::Identity;

/// Years an authority is valid.
pub const AUTHORITY_YEARS: i16 = 10;
/// Years a leaf is valid.
pub const LEAF_YEARS: i16 = 1;
const AUTHORITY_CERTIFICATE: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca-key.pem";

#[derive(clap::Subcommand, Debug)]
pub enum CaCommand {
    /// Create an authority: `ca.pem` and `ca-key.pem` in a directory.
    Init {
        /// Where to write; created if absent. An authority that is there stays as it is.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Issue a certificate: `tls.crt`, `tls.key` and `ca.crt` in a directory.
    Issue {
        /// The directory of the authority.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Who the holder is: `cluster/ID`, `pool/NAME/edge/ID` or `controller/ID`.
        #[arg(long, value_name = "IDENTITY")]
        identity: String,
        /// A DNS name by which a controller is dialled. Repeatable.
        #[arg(long, value_name = "NAME")]
        dns: Vec<String>,
        /// An address at which a controller is dialled. Repeatable.
        #[arg(long, value_name = "ADDR")]
        ip: Vec<IpAddr>,
        /// Where to write; created if absent.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("{flag} {path}: it exists already and is never overwritten; choose another directory with {flag}")]
    Exists { flag: &'static str, path: String },
    #[error("{flag} {path}: {reason}")]
    File { flag: &'static str, path: String, reason: std::io::Error },
    #[error("--identity {0}")]
    Identity(#[from] roadstead_proto::identity::IdentityError),
    #[error("--dns {name}: {reason}")]
    Name { name: String, reason: rcgen::Error },
    #[error("--dir {dir}: not a usable authority: {reason}; create one with `ca init`")]
    Authority { dir: String, reason: rcgen::Error },
    #[error("make the certificate: {0}")]
    Make(#[source] rcgen::Error),
}

/// # Errors
/// One line that names the flag to change.
pub fn run(command: CaCommand) -> Result<(), CaError> {
    match command {
        CaCommand::Init { dir } => init(&dir),
        CaCommand::Issue { dir, identity, dns, ip, out } => issue(&dir, &Identity::parse(&identity)?, &dns, &ip, &out),
    }
}

/// Creates an authority in `dir`.
pub fn init(dir: &Path) -> Result<(), CaError> {
    refuse_existing("--dir", dir, &[AUTHORITY_CERTIFICATE, AUTHORITY_KEY])?;
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Roadstead authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, AUTHORITY_YEARS);
    let certificate = params.self_signed(&key).map_err(CaError::Make)?;
    make_directory("--dir", dir)?;
    write("--dir", &dir.join(AUTHORITY_KEY), key.serialize_pem().as_bytes(), PRIVATE)?;
    write("--dir", &dir.join(AUTHORITY_CERTIFICATE), certificate.pem().as_bytes(), PUBLIC)
}

/// Issues a certificate for `identity` into `out`.
pub fn issue(dir: &Path, identity: &Identity, dns: &[String], ip: &[IpAddr], out: &Path) -> Result<(), CaError> {
    refuse_existing("--out", out, &["tls.crt", "tls.key", "ca.crt"])?;
    let authority_pem = read("--dir", &dir.join(AUTHORITY_CERTIFICATE))?;
    let authority_key = read("--dir", &dir.join(AUTHORITY_KEY))?;
    let unusable = |reason| CaError::Authority { dir: dir.display().to_string(), reason };
    let authority_key = KeyPair::from_pem(&authority_key).map_err(unusable)?;
    let issuer = Issuer::from_ca_cert_pem(&authority_pem, authority_key).map_err(unusable)?;
    let key = new_key()?;
    let certificate = leaf(identity, dns, ip)?.signed_by(&key, &issuer).map_err(CaError::Make)?;
    make_directory("--out", out)?;
    write("--out", &out.join("tls.key"), key.serialize_pem().as_bytes(), PRIVATE)?;
    write("--out", &out.join("tls.crt"), certificate.pem().as_bytes(), PUBLIC)?;
    write("--out", &out.join("ca.crt"), authority_pem.as_bytes(), PUBLIC)
}

fn leaf(identity: &Identity, dns: &[String], ip: &[IpAddr]) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, identity.to_string());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if matches!(identity, Identity::Controller(_)) {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    let uri = identity.to_uri().try_into().map_err(CaError::Make)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    for name in dns {
        let valid = name.clone().try_into().map_err(|reason| CaError::Name { name: name.clone(), reason })?;
        params.subject_alt_names.push(SanType::DnsName(valid));
    }
    params.subject_alt_names.extend(ip.iter().map(|address| SanType::IpAddress(*address)));
    set_validity(&mut params, LEAF_YEARS);
    Ok(params)
}

fn new_key() -> Result<KeyPair, CaError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Make)
}

/// From the beginning of yesterday (UTC), so that peers with slow clocks accept it at once.
fn set_validity(params: &mut CertificateParams, years: i16) {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let (from, to) = (today.saturating_sub(Span::new().days(1)), today.saturating_add(Span::new().years(years)));
    let day = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (day(from), day(to));
}

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

fn refuse_existing(flag: &'static str, dir: &Path, names: &[&str]) -> Result<(), CaError> {
    match names.iter().map(|name| dir.join(name)).find(|path| path.exists()) {
        Some(path) => Err(CaError::Exists { flag, path: path.display().to_string() }),
        None => Ok(()),
    }
}

fn make_directory(flag: &'static str, dir: &Path) -> Result<(), CaError> {
    std::fs::create_dir_all(dir).map_err(|reason| file_error(flag, dir, reason))
}

fn read(flag: &'static str, path: &Path) -> Result<String, CaError> {
    std::fs::read_to_string(path).map_err(|reason| file_error(flag, path, reason))
}

fn write(flag: &'static str, path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    open.and_then(|mut file| file.write_all(bytes)).map_err(|reason| file_error(flag, path, reason))
}

fn file_error(flag: &'static str, path: &Path, reason: std::io::Error) -> CaError {
    CaError::File { flag, path: path.display().to_string(), reason }
}

#[cfg(test)]
mod tests;
