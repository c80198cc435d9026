//! Deliberate bugs: each must be found within the default number of seeds, or the checkers are worth nothing.
//!
//! `cargo test --features sabotage --test sim sabotage`

use std::panic::{AssertUnwindSafe, catch_unwind};

use pgdog::base::sabotage::{Bug, switch};

use super::bug::SimBug;
use super::sweep::{SEEDS, play};

/// The first seed that finds it, and how.
fn find(name: &str, code: Option<Bug>, sim: Option<SimBug>) {
    for seed in 0..SEEDS {
        switch(code);
        // Here, and only here, a panic is what is wanted.
        let outcome = catch_unwind(AssertUnwindSafe(|| play(seed, sim)));
        switch(None);
        let why = match outcome {
            Ok(Ok(_)) => continue,
            Ok(Err(why)) => why.lines().nth(1).unwrap_or_default().chars().take(160).collect(),
            Err(_) => "a panic".to_string(),
        };
        println!("{name}: found by seed {seed}:{why}");
        return;
    }
    panic!("{name}: not found in {SEEDS} seeds");
}

#[test]
fn a_swapped_grant() {
    find("a swapped grant", None, Some(SimBug::SwappedGrant));
}

#[test]
fn a_missed_reset_of_parameters() {
    find("a missed reset of parameters", Some(Bug::MissedReset), None);
}

#[test]
fn a_double_checkin() {
    find("a double check-in", None, Some(SimBug::DoubleCheckin));
}

#[test]
fn a_lost_wakeup() {
    find("a lost wake-up", None, Some(SimBug::LostWakeup));
}

#[test]
fn a_cancel_sent_late() {
    find("a cancel sent late", None, Some(SimBug::LateCancel));
}

#[test]
fn a_buffer_not_returned() {
    find("a buffer not returned", Some(Bug::LostBuffer), None);
}

#[test]
fn a_close_bit_dropped() {
    find("a close bit dropped after a short read", None, Some(SimBug::DroppedClose));
}

#[test]
fn a_skipped_parse_believed_prepared() {
    find("a skipped Parse believed prepared", Some(Bug::SkippedParse), None);
}

#[test]
fn columns_that_a_client_was_not_told_of() {
    find("columns that a client was not told of", Some(Bug::UncheckedShape), None);
}

#[test]
fn a_record_layer_believed_empty() {
    find("a record layer believed empty", Some(Bug::ForgottenRecords), None);
}

#[test]
fn a_limit_over_several_pools_ignored() {
    find("a limit over several pools ignored", Some(Bug::IgnoredQuota), None);
}

#[test]
fn a_server_that_goes_on_listening() {
    find("a server that goes on listening", Some(Bug::KeptListens), None);
}

#[test]
fn a_notification_told_twice() {
    find("a notification told twice", Some(Bug::RepeatedNotification), None);
}

#[test]
fn a_lost_letter() {
    find("a lost letter", None, Some(SimBug::LostLetter));
}

#[test]
fn a_cancel_request_that_does_not_follow() {
    find("a cancel request that does not follow its session", Some(Bug::LostTrail), None);
}

#[test]
fn a_place_that_is_never_free() {
    find("a place that is never free", None, Some(SimBug::KeptPlace));
}
