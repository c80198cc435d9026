//! Certificates for tests, made as they are wanted.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub(super) struct Key {
    pub(super) pkcs8: Vec<u8>,
    pair: EcdsaKeyPair,
}

impl Key {
    pub(super) fn new() -> Key {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Key { pkcs8: pkcs8.as_ref().to_vec(), pair }
    }

    pub(super) fn der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.clone()).into()
    }
}

/// What a certificate is to say.
#[derive(Clone)]
pub(super) struct Wish<'a> {
    pub(super) version: u8,
    pub(super) subject: &'a str,
    pub(super) issuer: &'a str,
    /// GeneralName: tag and value.
    pub(super) names: Vec<(u8, Vec<u8>)>,
    pub(super) is_ca: Option<bool>,
    /// The last number of id-kp.
    pub(super) usage: Option<u8>,
    pub(super) not_before: &'a str,
    pub(super) not_after: &'a str,
    /// The last number of id-ce, critical.
    pub(super) unknown_critical: Option<u8>,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Wish {
            version: 3,
            subject: "localhost",
            issuer: "ca",
            names: Vec::new(),
            is_ca: None,
            usage: None,
            not_before: "200101000000Z",
            not_after: "491231235959Z",
            unknown_critical: None,
        }
    }
}

pub(super) fn dns(name: &str) -> (u8, Vec<u8>) {
    (0x82, name.as_bytes().to_vec())
}

pub(super) fn make(wish: &Wish<'_>, key: &Key, signer: &Key) -> CertificateDer<'static> {
    let ecdsa_sha256 = tlv(0x30, &[tlv(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])]);
    let name = |text: &str| {
        let attribute = tlv(0x30, &[tlv(6, &[&[0x55, 4, 3]]), tlv(0x0c, &[text.as_bytes()])]);
        tlv(0x30, &[tlv(0x31, &[attribute])])
    };
    let curve = [
        tlv(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]]),
        tlv(6, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]]),
    ];
    let key_info = tlv(0x30, &[tlv(0x30, &curve), tlv(3, &[&[0][..], key.pair.public_key().as_ref()])]);
    let mut body = Vec::new();
    if wish.version > 1 {
        body.push(tlv(0xa0, &[tlv(2, &[&[wish.version - 1]])]));
    }
    body.push(tlv(2, &[&[7]]));
    body.push(ecdsa_sha256.clone());
    body.push(name(wish.issuer));
    let time = |text: &str| tlv(if text.len() == 13 { 0x17 } else { 0x18 }, &[text.as_bytes()]);
    body.push(tlv(0x30, &[time(wish.not_before), time(wish.not_after)]));
    body.push(name(wish.subject));
    body.push(key_info);
    let extensions = extensions(wish);
    if !extensions.is_empty() {
        body.push(tlv(0xa3, &[tlv(0x30, &extensions)]));
    }
    let body = tlv(0x30, &body);
    let signature = signer.pair.sign(&SystemRandom::new(), &body).unwrap();
    let signature = tlv(3, &[&[0][..], signature.as_ref()]);
    CertificateDer::from(tlv(0x30, &[body, ecdsa_sha256, signature]))
}

fn extensions(wish: &Wish<'_>) -> Vec<Vec<u8>> {
    let extension = |number: u8, critical: bool, value: Vec<u8>| {
        let mut parts = vec![tlv(6, &[&[0x55, 0x1d, number]])];
        if critical {
            parts.push(tlv(1, &[&[0xff]]));
        }
        parts.push(tlv(4, &[value]));
        tlv(0x30, &parts)
    };
    let mut all = Vec::new();
    if let Some(is_ca) = wish.is_ca {
        let parts = if is_ca { vec![tlv(1, &[&[0xff]])] } else { Vec::new() };
        all.push(extension(19, true, tlv(0x30, &parts)));
    }
    if !wish.names.is_empty() {
        let names: Vec<_> = wish.names.iter().map(|(tag, value)| tlv(*tag, &[value])).collect();
        all.push(extension(17, false, tlv(0x30, &names)));
    }
    if let Some(usage) = wish.usage {
        all.push(extension(37, false, tlv(0x30, &[tlv(6, &[&[0x2b, 6, 1, 5, 5, 7, 3, usage]])])));
    }
    if let Some(number) = wish.unknown_critical {
        all.push(extension(number, true, tlv(5, &[&[]])));
    }
    all
}

pub(super) fn tlv(tag: u8, parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let value: Vec<u8> = parts.iter().flat_map(|part| part.as_ref().iter().copied()).collect();
    let mut out = vec![tag];
    match value.len() {
        length @ 0..0x80 => out.push(length as u8),
        length @ 0x80..0x100 => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(value);
    out
}
