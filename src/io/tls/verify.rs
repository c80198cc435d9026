//! Whether a certificate is to be believed: what libpq accepts from a server, and PostgreSQL from a client.
//!
//! webpki checks chains. It refuses some that OpenSSL accepts and that PostgreSQL's users have, since its manual makes them:
//! certificates of version 1 (`openssl x509 -req` without extensions), and CA certificates used by a server itself. Those are
//! checked here, in the two shortest forms only: the certificate is one of those configured, or one of those has signed it.
//! Names are checked here too, as libpq does: by the common name where there is no alternative name of the right kind.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, RootCertStore,
    SignatureScheme,
};

use crate::io::tls::x509::{Certificate, Name, Usage};

/// Names of a certificate that an error tells.
const NAMES_TOLD_MAX: usize = 4;

/// Certificates that are trusted, and what signatures are checked with.
#[derive(Debug)]
pub struct Trust {
    /// Those that may sign others.
    signers: Arc<RootCertStore>,
    all: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// # Errors
    /// One of them is no certificate.
    pub fn new(all: Vec<CertificateDer<'static>>, provider: &CryptoProvider) -> Result<Trust, Error> {
        let mut signers = RootCertStore::empty();
        for der in &all {
            let certificate = parse(der)?;
            // Version 1 cannot say that it is a CA; it may be one if it has signed itself.
            if certificate.is_ca || (certificate.version < 3 && certificate.is_self_issued()) {
                signers.add(der.clone())?;
            }
        }
        let algorithms = provider.signature_verification_algorithms;
        Ok(Trust { signers: Arc::new(signers), all, algorithms })
    }

    /// Goes on where webpki has refused a certificate with `error`.
    fn go_on(
        &self,
        der: &CertificateDer<'_>,
        usage: Usage,
        now: UnixTime,
        error: Error,
    ) -> Result<(), Error> {
        let certificate = parse(der)?;
        let is_configured = self.all.iter().any(|trusted| trusted == der);
        if !is_configured && certificate.version == 3 && !certificate.is_ca {
            return Err(error);
        }
        if !certificate.is_valid_at(now.as_secs()) {
            return Err(match now.as_secs() < certificate.not_before {
                true => CertificateError::NotValidYet.into(),
                false => CertificateError::Expired.into(),
            });
        }
        if !certificate.allows(usage) {
            return Err(CertificateError::InvalidPurpose.into());
        }
        if is_configured {
            return Ok(());
        }
        if certificate.has_unknown_critical {
            return Err(CertificateError::UnhandledCriticalExtension.into());
        }
        for signer in &self.signers.roots {
            if *signer.subject == *certificate.issuer
                && signer.name_constraints.is_none()
                && let Some((algorithm, key)) = split_key(&signer.subject_public_key_info)
                && self.has_signed(algorithm, key, &certificate)
            {
                return Ok(());
            }
        }
        Err(error)
    }

    fn has_signed(&self, key_algorithm: &[u8], key: &[u8], certificate: &Certificate<'_>) -> bool {
        let fits = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
            is(algorithm.public_key_alg_id(), key_algorithm)
                && is(algorithm.signature_alg_id(), certificate.signature_algorithm)
        };
        let verify = |algorithm: &&dyn SignatureVerificationAlgorithm| {
            algorithm.verify_signature(key, certificate.signed, certificate.signature).is_ok()
        };
        self.algorithms.all.iter().filter(fits).any(verify)
    }

    /// What has been signed in the handshake, by the key of this certificate.
    fn verify_handshake(
        &self,
        message: &[u8],
        der: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        is_tls_13: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_handshake(&self.algorithms, message, der, signed, is_tls_13)
    }
}

fn verify_handshake(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    der: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    is_tls_13: bool,
) -> Result<HandshakeSignatureValid, Error> {
    let unadvertised = Error::from(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme);
    let of_scheme = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let (_, possible) = of_scheme.ok_or(unadvertised.clone())?;
    // TLS 1.3 names the curve with the scheme: the first one is it. It has no PKCS #1 signatures.
    let is_pkcs1 = matches!(
        signed.scheme,
        SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
    );
    let possible = match is_tls_13 {
        true if is_pkcs1 => return Err(unadvertised),
        true => &possible[..possible.len().min(1)],
        false => possible,
    };
    let certificate = parse(der)?;
    let fits = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
        is(algorithm.public_key_alg_id(), certificate.key_algorithm)
    };
    let verify = |algorithm: &&dyn SignatureVerificationAlgorithm| {
        algorithm.verify_signature(certificate.key, message, signed.signature()).is_ok()
    };
    match possible.iter().filter(fits).any(verify) {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<Certificate<'a>, Error> {
    Certificate::parse(der).map_err(|_| CertificateError::BadEncoding.into())
}

fn is(known: AlgorithmIdentifier, found: &[u8]) -> bool {
    *known == *found
}

/// Algorithm and bits of what is inside of a SubjectPublicKeyInfo.
fn split_key(key_info: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut key_info = crate::io::tls::x509::Der(key_info);
    let algorithm = key_info.tagged(0x30).ok()?;
    let key = key_info.tagged(0x03).ok()?.strip_prefix(&[0])?;
    Some((algorithm, key))
}

/// How far servers are believed.
#[derive(Debug)]
pub enum Servers {
    /// Whoever they are.
    Any(WebPkiSupportedAlgorithms),
    /// Whoever has a certificate that is trusted; with `names`, one for the name that was connected to.
    Trusted { trust: Trust, names: bool },
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Servers::Trusted { trust, names } = self else { return Ok(ServerCertVerified::assertion()) };
        let chain = ParsedCertificate::try_from(end_entity).and_then(|parsed| {
            let algorithms = trust.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, &trust.signers, intermediates, now, algorithms)
        });
        if let Err(error) = chain {
            trust.go_on(end_entity, Usage::Server, now, error)?;
        }
        if *names {
            let certificate = parse(end_entity)?;
            let constrained = trust.signers.roots.iter().any(|signer| signer.name_constraints.is_some())
                || intermediates.iter().any(|der| parse(der).is_ok_and(|other| other.has_name_constraints));
            if !is_for(&certificate, &server_name.to_str(), !constrained) {
                let common = certificate.common_name().map(|name| format!("CommonName({name:?})"));
                let names = certificate.names().map(|name| format!("{name:?}")).chain(common);
                let presented = names.take(NAMES_TOLD_MAX).collect();
                let expected = server_name.to_owned();
                return Err(CertificateError::NotValidForNameContext { expected, presented }.into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_handshake(self.algorithms(), message, cert, dss, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_handshake(self.algorithms(), message, cert, dss, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

impl Servers {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        match self {
            Servers::Any(algorithms) => algorithms,
            Servers::Trusted { trust, .. } => &trust.algorithms,
        }
    }
}

/// Whether a certificate is for a host (libpq: `pgtls_verify_peer_name_matches_certificate_guts`). The common name counts only
/// if `may_be_common` and there is no alternative name of the host's kind.
fn is_for(certificate: &Certificate<'_>, host: &str, may_be_common: bool) -> bool {
    let ip: Option<IpAddr> = host.parse().ok();
    let mut has_own_kind = false;
    for name in certificate.names() {
        match name {
            Name::Dns(pattern) => {
                has_own_kind |= ip.is_none();
                if matches(pattern, host) {
                    return true;
                }
            }
            Name::Ip(address) => {
                has_own_kind |= ip.is_some();
                if ip == Some(address) {
                    return true;
                }
            }
            Name::Uri(_) | Name::Email(_) => {}
        }
    }
    may_be_common && !has_own_kind && certificate.common_name().is_some_and(|name| matches(name, host))
}

/// A name, or one with `*` for its first label, which then stands for exactly one.
fn matches(pattern: &str, host: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix('*') {
        let Some((label, tail)) = host.find('.').map(|dot| host.split_at(dot)) else { return false };
        return rest.len() > 2
            && rest.starts_with('.')
            && !label.is_empty()
            && rest.eq_ignore_ascii_case(tail);
    }
    !pattern.is_empty() && pattern.eq_ignore_ascii_case(host)
}

/// Clients may show a certificate of these; whether one must is a matter of its user.
#[derive(Debug)]
pub struct Clients {
    trust: Trust,
    webpki: Arc<dyn ClientCertVerifier>,
}

impl Clients {
    /// # Errors
    /// There is no certificate that may sign others.
    pub fn new(trust: Trust, provider: &Arc<CryptoProvider>) -> Result<Clients, String> {
        let webpki = WebPkiClientVerifier::builder_with_provider(trust.signers.clone(), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Clients { trust, webpki })
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Err(error) = self.webpki.verify_client_cert(end_entity, intermediates, now) {
            self.trust.go_on(end_entity, Usage::Client, now, error)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_handshake(message, cert, dss, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_handshake(message, cert, dss, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::tls::forge::{Key, Wish, dns, make};
    use crate::io::tls::provider;

    fn now() -> UnixTime {
        UnixTime::now()
    }

    /// The host `localhost` shows `leaf`; `trusted` is in the bundle.
    fn server(trusted: &CertificateDer<'static>, leaf: &CertificateDer<'_>, host: &str) -> Result<(), Error> {
        let trust = Trust::new(vec![trusted.clone()], &provider()).unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let servers = Servers::Trusted { trust, names: true };
        servers.verify_server_cert(leaf, &[], &name, &[], now()).map(drop)
    }

    fn ca() -> Wish<'static> {
        Wish { subject: "ca", is_ca: Some(true), ..Wish::default() }
    }

    fn is_of_another_name(result: &Result<(), Error>) -> bool {
        use CertificateError::NotValidForNameContext;
        matches!(result, Err(Error::InvalidCertificate(NotValidForNameContext { .. })))
    }

    #[test]
    fn names_as_libpq_takes_them() {
        let (ca_key, key) = (Key::new(), Key::new());
        let ca = make(&ca(), &ca_key, &ca_key);
        let ip = |bytes: &[u8]| (0x87, bytes.to_vec());
        type Case<'a> = (&'a str, &'a str, Vec<(u8, Vec<u8>)>, bool);
        let cases: [Case<'_>; 18] = [
            ("db.example", "other", vec![dns("db.example")], true),
            ("DB.Example", "other", vec![dns("db.eXAMPLE")], true),
            ("db.example", "other", vec![dns("x"), dns("db.example")], true),
            ("db.example", "db.example", vec![], true),
            // An alternative name takes the common name's place.
            ("db.example", "db.example", vec![dns("other")], false),
            // One of another kind does not.
            ("db.example", "db.example", vec![ip(&[10, 0, 0, 1])], true),
            ("db.example", "db.example", vec![(0x81, b"a@b".to_vec())], true),
            ("db.example", "other", vec![dns("*.example")], true),
            ("db.example", "*.example", vec![], true),
            ("a.db.example", "x", vec![dns("*.example")], false),
            ("example", "x", vec![dns("*.example")], false),
            ("db.example", "x", vec![dns("*")], false),
            ("db.example", "x", vec![dns("d*.example")], false),
            ("10.0.0.1", "x", vec![ip(&[10, 0, 0, 1])], true),
            ("10.0.0.1", "10.0.0.1", vec![], true),
            ("10.0.0.1", "10.0.0.1", vec![ip(&[10, 0, 0, 2])], false),
            ("::1", "x", vec![ip(&std::net::Ipv6Addr::LOCALHOST.octets())], true),
            ("10.0.0.1", "x", vec![dns("*.0.0.2")], false),
        ];
        for (host, subject, names, fits) in cases {
            let leaf = make(&Wish { subject, names: names.clone(), ..Wish::default() }, &key, &ca_key);
            let result = server(&ca, &leaf, host);
            assert!(
                if fits { result.is_ok() } else { is_of_another_name(&result) },
                "{host} {subject} {names:?}"
            );
        }
    }

    #[test]
    fn chains_that_webpki_refuses_and_libpq_accepts() {
        let (ca_key, key) = (Key::new(), Key::new());
        let ca = make(&ca(), &ca_key, &ca_key);
        let wish = Wish::default;
        // Signed with `openssl x509 -req` and no extensions: PostgreSQL's manual, "Creating Certificates".
        let v1 = make(&Wish { version: 1, ..wish() }, &key, &ca_key);
        assert_eq!(server(&ca, &v1, "localhost"), Ok(()));
        assert!(is_of_another_name(&server(&ca, &v1, "elsewhere")));
        // A server that uses a CA certificate, signed by itself or by another.
        let own = make(&Wish { issuer: "localhost", is_ca: Some(true), ..wish() }, &key, &key);
        assert_eq!(server(&own, &own, "localhost"), Ok(()));
        let sub = make(&Wish { is_ca: Some(true), ..wish() }, &key, &ca_key);
        assert_eq!(server(&ca, &sub, "localhost"), Ok(()));
        // Signed by itself, no CA, and configured.
        let plain = make(&Wish { issuer: "localhost", ..wish() }, &key, &key);
        assert_eq!(server(&plain, &plain, "localhost"), Ok(()));
        // A root of version 1.
        let old = make(&Wish { version: 1, subject: "ca", ..wish() }, &ca_key, &ca_key);
        assert_eq!(server(&old, &v1, "localhost"), Ok(()));
        assert_eq!(server(&old, &make(&wish(), &key, &ca_key), "localhost"), Ok(()));
    }

    #[test]
    fn what_is_refused_stays_refused() {
        let (ca_key, key, other_key) = (Key::new(), Key::new(), Key::new());
        let ca = make(&ca(), &ca_key, &ca_key);
        let check = |wish: &Wish<'_>, signer: &Key| server(&ca, &make(wish, &key, signer), "localhost");
        // (version, is_ca): the way through webpki, and the ways around it.
        for (version, is_ca) in [(3, None), (1, None), (3, Some(true))] {
            let wish = Wish { version, is_ca, ..Wish::default() };
            assert_eq!(check(&wish, &ca_key), Ok(()), "{version} {is_ca:?}");
            assert!(check(&wish, &other_key).is_err(), "somebody else's signature");
            assert!(
                check(&Wish { issuer: "other", ..wish.clone() }, &ca_key).is_err(),
                "another issuer's name"
            );
            for (not_before, not_after) in
                [("200101000000Z", "210101000000Z"), ("480101000000Z", "490101000000Z")]
            {
                let result = check(&Wish { not_before, not_after, ..wish.clone() }, &ca_key);
                assert!(result.is_err(), "{not_before} to {not_after}");
            }
            if version == 3 {
                assert!(check(&Wish { usage: Some(2), ..wish.clone() }, &ca_key).is_err(), "a client's");
                assert_eq!(check(&Wish { usage: Some(1), ..wish.clone() }, &ca_key), Ok(()));
                assert!(check(&Wish { unknown_critical: Some(99), ..wish.clone() }, &ca_key).is_err());
            }
        }
        // A configured certificate that is no CA may be used itself; it may not sign others.
        let leaf = make(&Wish { subject: "ca", ..Wish::default() }, &ca_key, &ca_key);
        let signed = make(&Wish::default(), &key, &ca_key);
        assert!(server(&leaf, &signed, "localhost").is_err());
        let v1 = make(&Wish { version: 1, ..Wish::default() }, &key, &ca_key);
        assert!(server(&leaf, &v1, "localhost").is_err());
        // Configured does not mean for ever.
        let old =
            make(&Wish { not_after: "210101000000Z", issuer: "localhost", ..Wish::default() }, &key, &key);
        assert_eq!(server(&old, &old, "localhost"), Err(CertificateError::Expired.into()));
    }

    #[test]
    fn how_far_servers_are_believed() {
        let (ca_key, key) = (Key::new(), Key::new());
        let ca = make(&ca(), &ca_key, &ca_key);
        let leaf = make(&Wish { subject: "other", ..Wish::default() }, &key, &ca_key);
        let name = ServerName::try_from("localhost").unwrap();
        let check = |servers: Servers, leaf: &CertificateDer<'_>| {
            servers.verify_server_cert(leaf, &[], &name, &[], now()).is_ok()
        };
        let trust = || Trust::new(vec![ca.clone()], &provider()).unwrap();
        let stranger = make(&Wish::default(), &key, &key);
        assert!(check(Servers::Trusted { trust: trust(), names: false }, &leaf), "verify_ca");
        assert!(!check(Servers::Trusted { trust: trust(), names: true }, &leaf), "verify_full");
        assert!(!check(Servers::Trusted { trust: trust(), names: false }, &stranger));
        let algorithms = provider().signature_verification_algorithms;
        assert!(check(Servers::Any(algorithms), &stranger), "prefer");
    }
}
