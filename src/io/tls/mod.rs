//! TLS with rustls: what the configuration says about certificates, read and checked, and the record layers made of it.

#[cfg(test)]
mod forge;
mod handshake;
pub mod record;
#[cfg(test)]
mod tests;
pub mod verify;
pub mod x509;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};

use crate::config::{General, TlsVerify};
use crate::io::tls::handshake::Tls;
use crate::io::tls::verify::{Clients, Servers, Trust};
use crate::io::transport::{RecordFault, Records, Sealer};

/// PostgreSQL's name among protocols (RFC 7301).
const ALPN: &[u8] = b"postgresql";
/// Where systems keep the certificates that they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The one place that chooses who computes.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Record layers by one configuration.
pub struct TlsSealer {
    clients: Option<Accepting>,
    servers: Option<Arc<ClientConfig>>,
}

struct Accepting {
    config: Arc<ServerConfig>,
    end_point: Option<Arc<[u8]>>,
}

impl TlsSealer {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// One line for each thing that is wrong.
    pub fn load(general: &General) -> Result<TlsSealer, Vec<String>> {
        let provider = provider();
        let mut faults = Vec::new();
        let clients = accepting(general, &provider).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        let servers = connecting(general, &provider).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        if faults.is_empty() { Ok(TlsSealer { clients, servers }) } else { Err(faults) }
    }
}

impl Sealer for TlsSealer {
    fn offers(&self) -> bool {
        self.clients.is_some()
    }

    fn asks(&self) -> bool {
        self.servers.is_some()
    }

    fn accept(&self, direct: bool) -> Result<Box<dyn Records>, RecordFault> {
        let Some(Accepting { config, end_point }) = &self.clients else {
            return Err(RecordFault("no certificate is configured".to_owned()));
        };
        let connection = UnbufferedServerConnection::new(config.clone()).map_err(fault)?;
        Ok(Box::new(Tls::server(connection, end_point.clone(), direct)))
    }

    fn connect(&self, host: &str) -> Result<Box<dyn Records>, RecordFault> {
        let Some(config) = &self.servers else {
            return Err(RecordFault("encryption is switched off".to_owned()));
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| RecordFault(format!("{host:?} is no name that a certificate could have")))?;
        let connection = UnbufferedClientConnection::new(config.clone(), name).map_err(fault)?;
        Ok(Box::new(Tls::client(connection)?))
    }
}

fn fault(error: rustls::Error) -> RecordFault {
    RecordFault(format!("TLS: {error}"))
}

fn accepting(general: &General, provider: &Arc<CryptoProvider>) -> Result<Option<Accepting>, String> {
    let (Some(chain), Some(key)) = (&general.tls_certificate, &general.tls_private_key) else {
        return Ok(None);
    };
    let certified = certified_key("tls_certificate", chain, "tls_private_key", key, provider)?;
    let end_point = certified.cert.first().and_then(|leaf| x509::digest(leaf)).map(Arc::from);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &general.tls_client_ca_certificate {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let key = "tls_client_ca_certificate";
            let trust = trust(key, path, provider)?;
            let clients = Clients::new(trust, provider).map_err(|error| about(key, path, &error))?;
            builder.with_client_cert_verifier(Arc::new(clients))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // As PostgreSQL: connections last, and are not resumed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.enable_secret_extraction = true;
    Ok(Some(Accepting { config: Arc::new(config), end_point }))
}

fn connecting(
    general: &General,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<ClientConfig>>, String> {
    let servers = match general.tls_verify {
        TlsVerify::Disabled => return Ok(None),
        TlsVerify::Prefer => Servers::Any(provider.signature_verification_algorithms),
        verify @ (TlsVerify::VerifyCa | TlsVerify::VerifyFull) => {
            let trust = match &general.tls_server_ca_certificate {
                Some(path) => trust("tls_server_ca_certificate", path, provider)?,
                None => system_trust(provider)?,
            };
            Servers::Trusted { trust, names: verify == TlsVerify::VerifyFull }
        }
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(servers));
    let mut config = match (&general.tls_server_certificate, &general.tls_server_private_key) {
        (Some(chain), Some(key)) => {
            let certified =
                certified_key("tls_server_certificate", chain, "tls_server_private_key", key, provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        _ => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    Ok(Some(Arc::new(config)))
}

fn about(key: &str, path: &Path, what: &str) -> String {
    format!("{key} = \"{}\": {what}", path.display())
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| about(key, path, &error.to_string()))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(key, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(about(key, path, "there is no PEM certificate in it")),
        Err(error) => Err(about(key, path, &format!("it cannot be read as PEM: {error}"))),
    }
}

fn certified_key(
    chain_key: &str,
    chain: &Path,
    key_key: &str,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let certificates = certificates(chain_key, chain)?;
    let text = read(key_key, key)?;
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = text.windows(9).any(|window| window == b"ENCRYPTED");
        let what = match encrypted {
            true => "an encrypted private key cannot be used".to_owned(),
            false => format!("there is no PEM private key in it: {error}"),
        };
        about(key_key, key, &what)
    })?;
    let signer = provider
        .key_provider
        .load_private_key(der)
        .map_err(|error| about(key_key, key, &format!("the key cannot be used: {error}")))?;
    let certified = CertifiedKey::new(certificates, signer);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => Err(about(
            key_key,
            key,
            &format!("it is not the key of the certificate in \"{}\"", chain.display()),
        )),
        // rustls cannot tell for every kind of certificate.
        Err(_) => Ok(certified),
    }
}

fn trust(key: &str, path: &Path, provider: &CryptoProvider) -> Result<Trust, String> {
    Trust::new(certificates(key, path)?, provider).map_err(|error| about(key, path, &error.to_string()))
}

/// What the system trusts, as OpenSSL finds it.
fn system_trust(provider: &CryptoProvider) -> Result<Trust, String> {
    let key = "tls_server_ca_certificate";
    let configured = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let path = configured.or_else(|| SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
    match path {
        Some(path) => trust(key, &path, provider),
        None => Err(format!("{key} is not set, and the system has no certificates that it trusts")),
    }
}
