//! `[[hba]]`: who may log in from where, and how, in the manner of PostgreSQL's pg_hba.conf.

use std::net::IpAddr;

use super::Config;
use super::choices::{HbaConnection, HbaMethod};
use super::section::section;
use super::value::{Raw, Read, Setting, Shown};

section! {
    /// Who may log in from where, and how. As in pg_hba.conf the first rule that fits counts, and without one that fits
    /// nobody gets in, to the console neither. Without any rule everybody may come, by auth_type.
    pub struct Hba {
        "" {
            /// Connections that the rule is for: over TCP at all, with or without TLS, or over a Unix socket.
            connection ("type"): HbaConnection = HbaConnection::Host;
            /// Databases; "all" and an empty list are all of them, "sameuser" is the one with the user's name.
            database: Vec<String> = Vec::new();
            /// Users; "all" and an empty list are all of them.
            user: Vec<String> = Vec::new();
            /// Addresses and networks such as "10.0.0.0/8"; "all" and an empty list are all of them.
            address: Vec<Network> = Vec::new();
            /// What a client has to do.
            method: HbaMethod = HbaMethod::ScramSha256;
        }
    }
}

/// How a client has connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Over a Unix socket.
    Local,
    Host {
        address: IpAddr,
        is_encrypted: bool,
    },
}

/// An address with the number of its bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    All,
    Of { address: IpAddr, bits: u8 },
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        if text == "all" {
            return Some(Network::All);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => most,
        };
        (bits <= most).then_some(Network::Of { address, bits })
    }

    /// A client of IPv4 that came to an IPv6 socket is one of IPv4.
    pub fn contains(&self, other: IpAddr) -> bool {
        let Network::Of { address, bits } = self else { return true };
        let cut = |value: u128, width: u32| match width - u32::from(*bits) {
            128 => 0,
            free => value >> free,
        };
        match (address, other.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                cut(u32::from(*own).into(), 32) == cut(u32::from(other).into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => cut((*own).into(), 128) == cut(other.into(), 128),
            _ => false,
        }
    }
}

impl Setting for Network {
    fn read(raw: Raw<'_>) -> Read<Network> {
        let text = raw.string()?;
        Network::parse(text).ok_or_else(|| {
            let found: String = text.chars().take(64).collect();
            let expected = "an address or a network such as \"10.0.0.0/8\", or \"all\"";
            vec![raw.fault(format!("must be {expected}, not {found:?}"))]
        })
    }

    fn shown(&self) -> Shown {
        Shown::Text(match self {
            Network::All => "all".to_owned(),
            Network::Of { address, bits } => format!("{address}/{bits}"),
        })
    }
}

impl Hba {
    fn fits(&self, origin: Origin, database: &str, user: &str) -> bool {
        let (address, connection) = match (origin, self.connection) {
            (Origin::Local, HbaConnection::Local) => (None, true),
            (Origin::Host { address, is_encrypted }, connection) => {
                let fits = match connection {
                    HbaConnection::Local => false,
                    HbaConnection::Host => true,
                    HbaConnection::Hostssl => is_encrypted,
                    HbaConnection::Hostnossl => !is_encrypted,
                };
                (Some(address), fits)
            }
            (Origin::Local, _) => (None, false),
        };
        let fits_database =
            |name: &String| name == "all" || name == database || (name == "sameuser" && user == database);
        let fits_address = |network: &Network| address.is_none_or(|address| network.contains(address));
        connection
            && (self.database.is_empty() || self.database.iter().any(fits_database))
            && (self.user.is_empty() || self.user.iter().any(|name| name == "all" || name == user))
            && (self.address.is_empty() || self.address.iter().any(fits_address))
    }
}

impl Config {
    /// What a client has to do by the rules: none if there are no rules, `Some(None)` if no rule lets it in.
    pub fn rule(&self, origin: Origin, database: &str, user: &str) -> Option<Option<HbaMethod>> {
        if self.hba.is_empty() {
            return None;
        }
        let rule = self.hba.iter().find(|rule| rule.fits(origin, database, user));
        Some(rule.map(|rule| rule.method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.6", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.6/31", "10.0.0.7", true),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
            ("::1/128", "::2", false),
            ("all", "::1", true),
            ("all", "10.0.0.1", true),
        ];
        for (text, other, is_in) in cases {
            assert_eq!(network(text).contains(address(other)), is_in, "{other} in {text}");
        }
        for bad in
            ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+1", "10.0.0/8", "host", "/8"]
        {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_first_rule_that_fits() {
        let rule = |connection, database: &[&str], user: &[&str], networks: &[&str], method| Hba {
            connection,
            database: database.iter().map(|name| (*name).to_owned()).collect(),
            user: user.iter().map(|name| (*name).to_owned()).collect(),
            address: networks.iter().map(|text| network(text)).collect(),
            method,
        };
        let config = Config {
            hba: vec![
                rule(HbaConnection::Local, &[], &[], &[], HbaMethod::Trust),
                rule(HbaConnection::Host, &["all"], &["root"], &["all"], HbaMethod::Reject),
                rule(HbaConnection::Hostssl, &["a"], &[], &[], HbaMethod::Cert),
                rule(HbaConnection::Hostnossl, &["a"], &["all"], &["10.0.0.0/8"], HbaMethod::Md5),
                rule(
                    HbaConnection::Host,
                    &["b", "sameuser"],
                    &["x", "y"],
                    &["::1", "10.0.0.1"],
                    HbaMethod::Password,
                ),
            ],
            ..Config::default()
        };
        let host = |text: &str, is_encrypted| Origin::Host { address: address(text), is_encrypted };
        let cases = [
            (Origin::Local, "b", "root", Some(HbaMethod::Trust)),
            (host("10.0.0.1", true), "a", "root", Some(HbaMethod::Reject)),
            (host("10.0.0.1", true), "a", "x", Some(HbaMethod::Cert)),
            (host("10.0.0.1", false), "a", "x", Some(HbaMethod::Md5)),
            (host("11.0.0.1", false), "a", "x", None),
            (host("::1", false), "b", "y", Some(HbaMethod::Password)),
            (host("10.0.0.1", true), "y", "y", Some(HbaMethod::Password)),
            (host("10.0.0.1", true), "x", "y", None),
            (host("10.0.0.2", true), "b", "y", None),
            (host("10.0.0.1", true), "b", "z", None),
        ];
        for (origin, database, user, method) in cases {
            assert_eq!(config.rule(origin, database, user), Some(method), "{origin:?} {database} {user}");
        }
        assert_eq!(Config::default().rule(Origin::Local, "a", "x"), None);
    }
}
