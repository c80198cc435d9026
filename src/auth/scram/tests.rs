//! Both roles against each other, and against garbled and random messages.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::verifier::{Candidates, Challenge, Iterations, Keys, SaltSecret, Verifier, derive};
use super::client::{ClientBinding, ClientGreeted, Greeting, Proven};
use super::server::{Login, ServerBinding, ServerStart};
use super::*;
use crate::base::rng::SeededRng;

/// Changes one message on its way: which of the four, and its bytes.
type Garble<'a> = &'a dyn Fn(usize, &mut Vec<u8>);

fn untouched(_: usize, _: &mut Vec<u8>) {}

fn challenge() -> Challenge {
    Challenge::new(b"0123456789abcdef", Iterations::new(2).unwrap()).unwrap()
}

fn candidates(passwords: &[&[u8]]) -> Candidates {
    Candidates::derive(challenge(), passwords.iter().copied()).unwrap()
}

/// One login with what both sides know, through `garble`. What both sides end with.
fn exchange(
    candidates: &Candidates,
    keys_of: &dyn Fn(&Challenge) -> Keys,
    client: &ClientBinding,
    server: &ServerBinding,
    garble: Garble<'_>,
) -> Result<(Login, Proven), ScramFault> {
    let offered: Vec<&[u8]> = server.mechanisms().iter().map(|one| one.name().as_bytes()).collect();
    let (greeting, greeted) = ClientGreeted::begin(offered, client, &mut SeededRng::new(1))?;
    let Greeting { mechanism, mut message } = greeting;
    garble(0, &mut message);
    let start = ServerStart::new(Arc::new(candidates.clone()), server.clone(), mechanism.name().as_bytes())?;
    let (mut message, challenged) = start.client_first(&message, &mut SeededRng::new(2))?;
    garble(1, &mut message);
    let needs = greeted.server_first(&message)?;
    let keys = keys_of(needs.challenge());
    let (mut message, awaits) = needs.resume(&keys);
    garble(2, &mut message);
    let (mut message, login) = challenged.client_final(&message)?;
    garble(3, &mut message);
    Ok((login, awaits.server_final(&message)?))
}

fn end_point(data: &[u8]) -> EndPoint {
    EndPoint::new(data).unwrap()
}

#[test]
fn every_password_of_a_rotation_logs_in() {
    let candidates = candidates(&[b"old", b"new", b"newest"]);
    for (at, password) in [&b"old"[..], b"new", b"newest"].into_iter().enumerate() {
        let keys_of = |challenge: &Challenge| derive(password, challenge);
        let (login, _) = exchange(
            &candidates,
            &keys_of,
            &ClientBinding::Unavailable,
            &ServerBinding::Unavailable,
            &untouched,
        )
        .unwrap();
        assert_eq!(login.candidate, at);
    }
}

#[test]
fn wrong_password_and_unknown_user_are_the_same_fault() {
    let secret = SaltSecret::new(&mut SeededRng::new(9));
    let unknown = Candidates::unknown(&secret, b"alice", Iterations::new(2).unwrap());
    for candidates in [candidates(&[b"right", b"other"]), unknown] {
        let keys_of = |challenge: &Challenge| derive(b"wrong", challenge);
        let fault = exchange(
            &candidates,
            &keys_of,
            &ClientBinding::Unavailable,
            &ServerBinding::Unavailable,
            &untouched,
        )
        .unwrap_err();
        assert_eq!(fault, ScramFault::ProofRejected);
        assert_eq!(fault.class(), FaultClass::Password);
    }
}

/// Login at the proxy with a verifier only, then login at a server that has the same verifier.
#[test]
fn proven_keys_log_in_elsewhere() {
    let verifier = Verifier::new(challenge(), &derive(b"secret", &challenge()));
    let candidates = Candidates::of(verifier);
    let plain = (&ClientBinding::Unavailable, &ServerBinding::Unavailable);
    let keys_of = |challenge: &Challenge| derive(b"secret", challenge);
    let (login, _) = exchange(&candidates, &keys_of, plain.0, plain.1, &untouched).unwrap();
    assert_eq!(login.challenge, challenge());

    let passed_on = |asked: &Challenge| {
        assert_eq!(*asked, login.challenge);
        login.keys.clone()
    };
    assert!(exchange(&candidates, &passed_on, plain.0, plain.1, &untouched).is_ok());
}

#[test]
fn channel_binding() {
    let candidates = candidates(&[b"secret"]);
    let keys_of = |challenge: &Challenge| derive(b"secret", challenge);
    let ours = || ServerBinding::Offered(end_point(b"ours"));
    let run = |client: ClientBinding, server| {
        exchange(&candidates, &keys_of, &client, &server, &untouched).map(|_| ())
    };

    assert_eq!(run(ClientBinding::Require(end_point(b"ours")), ours()), Ok(()));
    assert_eq!(run(ClientBinding::Prefer(end_point(b"ours")), ours()), Ok(()));
    assert_eq!(run(ClientBinding::Unavailable, ours()), Ok(()));
    assert_eq!(run(ClientBinding::Prefer(end_point(b"ours")), ServerBinding::Unavailable), Ok(()));
    let in_between = ClientBinding::Prefer(end_point(b"of somebody in between"));
    assert_eq!(run(in_between, ours()), Err(ScramFault::BindingRejected));
}

/// Somebody in between removes SCRAM-SHA-256-PLUS from the offer.
#[test]
fn downgrade_is_found() {
    let client = ClientBinding::Prefer(end_point(b"ours"));
    let (greeting, _) =
        ClientGreeted::begin([&b"SCRAM-SHA-256"[..]], &client, &mut SeededRng::new(1)).unwrap();
    let server = ServerBinding::Offered(end_point(b"ours"));
    let start =
        ServerStart::new(Arc::new(candidates(&[b"secret"])), server, greeting.mechanism.name().as_bytes())
            .unwrap();
    let fault = start.client_first(&greeting.message, &mut SeededRng::new(2)).unwrap_err();
    assert_eq!(fault, ScramFault::BindingDowngraded);
}

/// Flips each bit, cuts at each place and doubles each byte of each message: no such exchange ends well.
#[test]
fn garbled_exchanges_fail() {
    let candidates = candidates(&[b"secret", b"other"]);
    let keys_of = |challenge: &Challenge| {
        // A flipped iteration count must not make the test derive for minutes.
        if challenge.iterations().count() > 1000 {
            Keys::new([0; 32], [0; 32])
        } else {
            derive(b"secret", challenge)
        }
    };
    let bindings = [
        (ClientBinding::Unavailable, ServerBinding::Unavailable),
        (ClientBinding::Prefer(end_point(b"ours")), ServerBinding::Offered(end_point(b"ours"))),
    ];
    for (client, server) in &bindings {
        let run = |garble: Garble<'_>| exchange(&candidates, &keys_of, client, server, garble);
        assert!(run(&untouched).is_ok());
        for which in 0..4 {
            let len = std::cell::Cell::new(0);
            run(&|at, message| {
                if at == which {
                    len.set(message.len());
                }
            })
            .unwrap();
            assert!(len.get() > 0);
            for at in 0..len.get() {
                for bit in 0..8 {
                    let flipped = run(&|now, message| {
                        if now == which {
                            message[at] ^= 1 << bit;
                        }
                    });
                    assert!(flipped.is_err(), "message {which}, byte {at}, bit {bit}");
                }
                let cut = run(&|now, message| {
                    if now == which {
                        message.truncate(at);
                    }
                });
                assert!(cut.is_err(), "message {which} cut at {at}");
                let doubled = run(&|now, message| {
                    if now == which {
                        message.insert(at, message[at]);
                    }
                });
                assert!(doubled.is_err(), "message {which}, byte {at} doubled");
            }
        }
    }
}

#[test]
fn longest_messages_fit_their_own_limit() {
    use super::super::limits::{ITERATIONS_MAX, SALT_LEN_MAX};
    let longest = Challenge::new(&[1; SALT_LEN_MAX], Iterations::new(ITERATIONS_MAX).unwrap()).unwrap();
    let unknown = Candidates::of(Verifier::new(longest, &Keys::new([1; 32], [2; 32])));
    let server = ServerBinding::Offered(end_point(&[7; END_POINT_LEN_MAX]));
    let start = ServerStart::new(Arc::new(unknown), server, b"SCRAM-SHA-256-PLUS").unwrap();
    let first = [b"p=tls-server-end-point,,n=,r=", &[b'x'; NONCE_LEN_MAX][..]].concat();
    let (reply, _) = start.client_first(&first, &mut SeededRng::new(1)).unwrap();
    assert!(reply.len() <= MESSAGE_LEN_MAX);
}

#[test]
fn displays_are_fit_for_a_log() {
    for fault in [
        ScramFault::ProofRejected,
        ScramFault::AttributeExpected('r'),
        ScramFault::ServerReported("x".to_string()),
        ScramFault::ChallengeMalformed(VerifierFault::SaltLength),
    ] {
        assert!(fault.to_string().is_ascii() && !fault.to_string().is_empty());
    }
}

/// Bytes that look enough like a message to get past the first checks.
fn near_message() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"n,,".to_vec()),
        Just(b"y,,".to_vec()),
        Just(b"p=tls-server-end-point,,".to_vec()),
        Just(b"n=,".to_vec()),
        Just(b"r=AAAAAAAAAAAAAAAA".to_vec()),
        Just(b",s=AAAA,i=1".to_vec()),
        Just(b"c=biws,".to_vec()),
        Just(b",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_vec()),
        Just(b"v=".to_vec()),
        Just(b"m=".to_vec()),
        Just(b",".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 1000..1100),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn anything_may_come(first in near_message(), second in near_message(), binds in any::<bool>()) {
        let (server, client) = if binds {
            let ours = end_point(b"ours");
            (ServerBinding::Offered(ours.clone()), ClientBinding::Prefer(ours))
        } else {
            (ServerBinding::Unavailable, ClientBinding::Unavailable)
        };
        let mechanism = server.mechanisms()[0].name().as_bytes();
        let start = || {
            let unknown = Candidates::of(Verifier::new(challenge(), &Keys::new([1; 32], [2; 32])));
            ServerStart::new(Arc::new(unknown), server.clone(), mechanism).unwrap()
        };
        if let Ok((_, challenged)) = start().client_first(&first, &mut SeededRng::new(1)) {
            prop_assert!(challenged.client_final(&second).is_err());
        }

        let begin = || ClientGreeted::begin([mechanism], &client, &mut SeededRng::new(1)).unwrap();
        let (greeting, greeted) = begin();
        let _ = greeted.server_first(&first);
        let (good, challenged) = start().client_first(&greeting.message, &mut SeededRng::new(2)).unwrap();
        prop_assert!(challenged.client_final(&second).is_err());
        let needs = begin().1.server_first(&good).unwrap();
        let (_, awaits) = needs.resume(&Keys::new([1; 32], [2; 32]));
        prop_assert!(awaits.server_final(&second).is_err());
    }
}
