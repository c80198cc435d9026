//! What is read of an X.509 certificate (RFC 5280): what its chain and its holder's name are checked by where webpki does not do
//! it, what SCRAM's channel binding hashes it with, and what the key of its signature is.
//!
//! Reads DER, and no more than is asked for. Bytes come from the peer: every access is checked, nothing is allocated by what
//! they announce.

use std::net::IpAddr;

use ring::digest::{SHA256, SHA384, SHA512};

/// The bytes are no certificate that this can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A certificate, as views of its bytes.
#[derive(Debug)]
pub struct Certificate<'a> {
    /// What is signed.
    pub signed: &'a [u8],
    /// 1 or 3.
    pub version: u8,
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    /// Seconds since 1970.
    pub not_before: u64,
    pub not_after: u64,
    /// The key: what is inside of its AlgorithmIdentifier, and its bits.
    pub key_algorithm: &'a [u8],
    pub key: &'a [u8],
    /// What is inside of the signature's AlgorithmIdentifier, and its bits.
    pub signature_algorithm: &'a [u8],
    pub signature: &'a [u8],
    pub is_ca: bool,
    pub has_name_constraints: bool,
    /// An extension that must be understood and is not.
    pub has_unknown_critical: bool,
    /// What is inside of the extensions, if they are there.
    alternative_names: Option<&'a [u8]>,
    extended_key_usage: Option<&'a [u8]>,
}

/// A name that a certificate gives its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    Dns(&'a str),
    Ip(IpAddr),
    Uri(&'a str),
    Email(&'a str),
}

/// What a key may be used for, by its extended key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
}

const BOOLEAN: u8 = 0x01;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const TELETEX: u8 = 0x14;
const IA5: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const ISSUER_ID: u8 = 0xa1;
const SUBJECT_ID: u8 = 0xa2;
const EXTENSIONS: u8 = 0xa3;
/// The same without the bit that says that they are made of others.
const ISSUER_ID_PRIMITIVE: u8 = 0x81;
const SUBJECT_ID_PRIMITIVE: u8 = 0x82;

/// GeneralName.
const EMAIL_NAME: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const URI_NAME: u8 = 0x86;
const IP_NAME: u8 = 0x87;

/// Objects: 2.5.29.x and the others.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 37, 0];

impl<'a> Certificate<'a> {
    pub fn parse(der: &'a [u8]) -> Result<Certificate<'a>, Malformed> {
        let mut outer = Der(der);
        let mut certificate = Der(outer.tagged(SEQUENCE)?);
        outer.end()?;
        let (signed, whole) = certificate.tagged_whole(SEQUENCE)?;
        let signature_algorithm = certificate.tagged(SEQUENCE)?;
        let signature = certificate.bits()?;
        certificate.end()?;

        let mut body = Der(signed);
        let version = match body.optional(VERSION)? {
            None => 1,
            Some(version) => match Der(version).tagged(INTEGER)? {
                [number @ 0..=2] => number + 1,
                _ => return Err(Malformed),
            },
        };
        body.tagged(INTEGER)?;
        if body.tagged(SEQUENCE)? != signature_algorithm {
            return Err(Malformed);
        }
        let issuer = body.tagged(SEQUENCE)?;
        let mut validity = Der(body.tagged(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        validity.end()?;
        let subject = body.tagged(SEQUENCE)?;
        let mut key_info = Der(body.tagged(SEQUENCE)?);
        let (key_algorithm, key) = (key_info.tagged(SEQUENCE)?, key_info.bits()?);
        key_info.end()?;
        for tag in [ISSUER_ID, ISSUER_ID_PRIMITIVE, SUBJECT_ID, SUBJECT_ID_PRIMITIVE] {
            body.optional(tag)?;
        }
        let extensions = body.optional(EXTENSIONS)?;
        body.end()?;

        let mut certificate = Certificate {
            signed: whole,
            version,
            issuer,
            subject,
            not_before,
            not_after,
            key_algorithm,
            key,
            signature_algorithm,
            signature,
            is_ca: false,
            has_name_constraints: false,
            has_unknown_critical: false,
            alternative_names: None,
            extended_key_usage: None,
        };
        if let Some(extensions) = extensions {
            if version != 3 {
                return Err(Malformed);
            }
            certificate.read_extensions(extensions)?;
        }
        Ok(certificate)
    }

    fn read_extensions(&mut self, extensions: &'a [u8]) -> Result<(), Malformed> {
        let mut outer = Der(extensions);
        let mut all = Der(outer.tagged(SEQUENCE)?);
        outer.end()?;
        while !all.0.is_empty() {
            let mut extension = Der(all.tagged(SEQUENCE)?);
            let object = extension.tagged(OBJECT)?;
            let is_critical = match extension.optional(BOOLEAN)? {
                None | Some([0]) => false,
                Some([0xff]) => true,
                Some(_) => return Err(Malformed),
            };
            let value = extension.tagged(OCTET_STRING)?;
            extension.end()?;
            match object {
                BASIC_CONSTRAINTS => {
                    let mut constraints = Der(Der(value).tagged(SEQUENCE)?);
                    self.is_ca = constraints.optional(BOOLEAN)? == Some(&[0xff]);
                }
                ALTERNATIVE_NAMES => self.alternative_names = Some(Der(value).tagged(SEQUENCE)?),
                EXTENDED_KEY_USAGE => self.extended_key_usage = Some(Der(value).tagged(SEQUENCE)?),
                NAME_CONSTRAINTS => self.has_name_constraints = true,
                // What a key may sign is checked by what it has signed.
                KEY_USAGE => {}
                _ => self.has_unknown_critical |= is_critical,
            }
        }
        Ok(())
    }

    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    pub fn is_valid_at(&self, now: u64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// A certificate that says nothing about the use of its key allows all.
    pub fn allows(&self, usage: Usage) -> bool {
        let Some(usages) = self.extended_key_usage else { return true };
        let wanted = match usage {
            Usage::Server => SERVER_AUTH,
            Usage::Client => CLIENT_AUTH,
        };
        let mut usages = Der(usages);
        while let Ok(object) = usages.tagged(OBJECT) {
            if object == wanted || object == ANY_USAGE {
                return true;
            }
        }
        false
    }

    /// The alternative names that can be read.
    pub fn names(&self) -> impl Iterator<Item = Name<'a>> {
        let mut rest = Der(self.alternative_names.unwrap_or_default());
        std::iter::from_fn(move || {
            loop {
                let (tag, value) = rest.any().ok()?;
                let text = || std::str::from_utf8(value).ok().filter(|text| text.is_ascii());
                let name = match tag {
                    DNS_NAME => text().map(Name::Dns),
                    URI_NAME => text().map(Name::Uri),
                    EMAIL_NAME => text().map(Name::Email),
                    IP_NAME => ip(value).map(Name::Ip),
                    _ => None,
                };
                if name.is_some() {
                    return name;
                }
            }
        })
    }

    /// The first common name of the subject, as PostgreSQL takes it.
    pub fn common_name(&self) -> Option<&'a str> {
        let mut subject = Der(self.subject);
        while let Ok(set) = subject.tagged(SET) {
            let mut set = Der(set);
            while let Ok(attribute) = set.tagged(SEQUENCE) {
                let mut attribute = Der(attribute);
                if attribute.tagged(OBJECT) == Ok(COMMON_NAME)
                    && let Ok((UTF8 | PRINTABLE | TELETEX | IA5, value)) = attribute.any()
                {
                    // With a NUL, its end would depend on who reads it (PostgreSQL: CVE-2009-4034).
                    return std::str::from_utf8(value).ok().filter(|name| !name.contains('\0'));
                }
            }
        }
        None
    }
}

/// The digest of a certificate for `tls-server-end-point` (RFC 5929, section 4.1): under the hash of its signature, SHA-256 in
/// place of MD5 and SHA-1; none for signatures without a hash of their own (Ed25519).
pub fn digest(der: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::parse(der).ok()?;
    let mut algorithm = Der(certificate.signature_algorithm);
    let hash = match algorithm.tagged(OBJECT).ok()? {
        // 1.2.840.113549.1.1: RSA.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, number] => match number {
            4 | 5 | 11 => &SHA256,
            12 => &SHA384,
            13 => &SHA512,
            // RSASSA-PSS: the hash is its first parameter.
            10 => {
                let parameters = algorithm.tagged(SEQUENCE).ok()?;
                let hash = Der(parameters).optional(0xa0).ok()??;
                match Der(Der(hash).tagged(SEQUENCE).ok()?).tagged(OBJECT).ok()? {
                    [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1] => &SHA256,
                    [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2] => &SHA384,
                    [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3] => &SHA512,
                    _ => return None,
                }
            }
            _ => return None,
        },
        // 1.2.840.10045.4: ECDSA.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => &SHA256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => &SHA384,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4] => &SHA512,
        _ => return None,
    };
    Some(ring::digest::digest(hash, der).as_ref().to_vec())
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// A cursor over DER: tag, length, value.
#[derive(Clone, Copy)]
pub struct Der<'a>(pub &'a [u8]);

impl<'a> Der<'a> {
    /// The next value, with its tag.
    pub fn any(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        let (tag, value, _) = self.any_whole()?;
        Ok((tag, value))
    }

    fn any_whole(&mut self) -> Result<(u8, &'a [u8], &'a [u8]), Malformed> {
        let &[tag, length, ..] = self.0 else { return Err(Malformed) };
        // Tags of more than one byte are not used.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (header, length) = match length {
            0..=0x7f => (2, usize::from(length)),
            0x81..=0x83 => {
                let count = usize::from(length & 0x7f);
                let bytes = self.0.get(2..2 + count).ok_or(Malformed)?;
                let length = bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
                // The shortest form is the only one.
                if length < 0x80 || bytes[0] == 0 {
                    return Err(Malformed);
                }
                (2 + count, length)
            }
            _ => return Err(Malformed),
        };
        let whole = self.0.get(..header + length).ok_or(Malformed)?;
        self.0 = &self.0[whole.len()..];
        Ok((tag, &whole[header..], whole))
    }

    pub fn tagged(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        match self.any()? {
            (found, value) if found == tag => Ok(value),
            _ => Err(Malformed),
        }
    }

    /// The value, and it with its tag and length.
    fn tagged_whole(&mut self, tag: u8) -> Result<(&'a [u8], &'a [u8]), Malformed> {
        match self.any_whole()? {
            (found, value, whole) if found == tag => Ok((value, whole)),
            _ => Err(Malformed),
        }
    }

    pub fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.0.first() == Some(&tag) { self.tagged(tag).map(Some) } else { Ok(None) }
    }

    /// A BIT STRING of whole bytes.
    fn bits(&mut self) -> Result<&'a [u8], Malformed> {
        self.tagged(BIT_STRING)?.strip_prefix(&[0]).ok_or(Malformed)
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// Seconds since 1970; what lies before is 1970.
    fn time(&mut self) -> Result<u64, Malformed> {
        let (tag, text) = self.any()?;
        let text = text.strip_suffix(b"Z").ok_or(Malformed)?;
        if !text.iter().all(u8::is_ascii_digit) {
            return Err(Malformed);
        }
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).ok_or(Malformed)?;
            Ok(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
        };
        let (year, at) = match (tag, text.len()) {
            (UTC_TIME, 12) => match number(0, 2)? {
                year @ 0..50 => (2000 + year, 2),
                year => (1900 + year, 2),
            },
            (GENERALIZED_TIME, 14) => (number(0, 4)?, 4),
            _ => return Err(Malformed),
        };
        let (month, day) = (number(at, at + 2)?, number(at + 2, at + 4)?);
        let (hour, minute, second) =
            (number(at + 4, at + 6)?, number(at + 6, at + 8)?, number(at + 8, at + 10)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return Err(Malformed);
        }
        Ok(days(year, month, day).saturating_mul(86_400) + hour * 3_600 + minute * 60 + second)
    }
}

/// Days from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year.saturating_sub(u64::from(month <= 2));
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Rng, SeededRng};
    use crate::io::tls::forge::{Key, Wish, dns, make, tlv};

    #[test]
    fn a_certificate_says_what_it_was_made_to_say() {
        let key = Key::new();
        let wish = Wish {
            subject: "host",
            issuer: "ca",
            names: vec![dns("a.b"), (0x87, vec![1, 2, 3, 4]), (0x87, vec![1]), (0x86, b"x:y".to_vec())],
            is_ca: Some(true),
            usage: Some(1),
            not_before: "19700102000000Z",
            not_after: "20000229120001Z",
            ..Wish::default()
        };
        let der = make(&wish, &key, &key);
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!((certificate.version, certificate.is_ca), (3, true));
        assert_eq!((certificate.not_before, certificate.not_after), (86_400, 951_825_601));
        assert_eq!(certificate.common_name(), Some("host"));
        let names: Vec<_> = certificate.names().collect();
        assert_eq!(names, [Name::Dns("a.b"), Name::Ip([1, 2, 3, 4].into()), Name::Uri("x:y")]);
        assert!(certificate.allows(Usage::Server) && !certificate.allows(Usage::Client));
        assert!(!certificate.has_unknown_critical && !certificate.is_self_issued());
        assert_eq!(digest(&der).map(|digest| digest.len()), Some(32));
        let old = make(&Wish { version: 1, ..Wish::default() }, &key, &key);
        assert_eq!(Certificate::parse(&old).unwrap().version, 1);
    }

    #[test]
    fn a_name_with_a_nul_is_none() {
        let key = Key::new();
        let der = make(&Wish { subject: "good\0bad", ..Wish::default() }, &key, &key);
        assert_eq!(Certificate::parse(&der).unwrap().common_name(), None);
    }

    #[test]
    fn cut_and_changed_certificates_do_no_harm() {
        let key = Key::new();
        let der = make(&Wish { names: vec![dns("a.b")], ..Wish::default() }, &key, &key);
        for length in 0..der.len() {
            assert!(Certificate::parse(&der[..length]).is_err(), "{length}");
        }
        let mut rng = SeededRng::new(1);
        for _ in 0..20_000 {
            let mut bytes = der.to_vec();
            for _ in 0..1 + rng.below(3) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            if let Ok(certificate) = Certificate::parse(&bytes) {
                certificate.names().count();
                certificate.common_name();
                certificate.allows(Usage::Client);
            }
            digest(&bytes);
        }
    }

    #[test]
    fn lengths_have_one_form() {
        let read = |bytes: &[u8]| Der(bytes).any().map(|(tag, value)| (tag, value.len()));
        assert_eq!(read(&tlv(4, &[&[7; 300][..]])), Ok((4, 300)));
        for bad in [
            &[4][..],
            &[4, 2, 0],
            &[4, 0x80, 0, 0],
            &[4, 0x81, 5, 0, 0, 0, 0, 0],
            &[4, 0x82, 0, 0x90],
            &[4, 0x84, 0, 0, 0, 0],
            &[0x1f, 1, 0],
        ] {
            assert_eq!(read(bad), Err(Malformed), "{bad:?}");
        }
    }
}
