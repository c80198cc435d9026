//! `passthrough_auth`: a server is asked whether a client's password is right, by a login of its own.
//!
//! The login has a pool of its own, which nobody else knows and which ends with it: neither a slot nor a connection of
//! the user's pool is touched before the server has taken the password. There are at most
//! [`crate::base::limits::TRIALS_MAX`] at a time; who comes meanwhile waits. A password that was taken is not tried again
//! for `auth_query_ttl`, within one configuration epoch.

use std::sync::Arc;

use crate::auth::keys::Credential;
use crate::base::limits::TRIAL_RETRY;
use crate::base::time::Time;
use crate::cluster::world::{OpenFailure, Trust};
use crate::config::Secret;
use crate::session::auth::{Step, Verdict};
use crate::session::cx::{Action, Cx};
use crate::session::errors::unavailable;
use crate::session::server::ServerPool;
use crate::session::{Session, State};
use crate::wire::error;

/// A login under way.
pub struct Trial<S> {
    pub until: Time,
    pool: Arc<ServerPool<S>>,
    given: Secret,
}

fn credential(given: &Secret) -> Credential {
    Credential::Password(crate::auth::secret::Password::new(given.as_bytes()))
}

impl<S> Session<S> {
    /// The client has sent its password.
    pub(super) fn pass_through(&mut self, given: Secret, cx: &mut Cx<'_, S>) {
        let Some(name) = &self.who.name else { return };
        let general = &cx.world.config.general;
        let known = cx
            .world
            .cluster_of(name)
            .map(|cluster| cluster.learnt.compare(&credential(&given), cx.world.epoch));
        match known {
            Some(Trust::Same(at)) if cx.now.since(at) < general.auth_query_ttl => {
                self.accept(credential(&given), cx);
            }
            Some(Trust::Other) if !general.passthrough_auth.allows_change() => {
                self.judge(Verdict::Wrong, cx);
            }
            _ => self.try_password(given, cx),
        }
    }

    fn try_password(&mut self, given: Secret, cx: &mut Cx<'_, S>) {
        let Some(name) = &self.who.name else { return };
        let Some(turn) = cx.shared.turn() else {
            return self.set_step(Step::Queueing(given, cx.now + TRIAL_RETRY));
        };
        let Some(pool) = cx.world.trial(name, &given, turn) else {
            return self.fail_lookup("its database has no server", cx);
        };
        let until = cx.now + pool.config.connect_timeout;
        self.checkout += 1;
        cx.actions.push(Action::Checkout { pool: pool.clone(), number: self.checkout });
        self.set_step(Step::Trying(Trial { until, pool, given }));
    }

    /// Perhaps there is room now.
    pub(super) fn try_again(&mut self, cx: &mut Cx<'_, S>) {
        let State::Auth(auth) = &mut self.state else { return };
        if let Step::Queueing(given, _) = std::mem::replace(&mut auth.step, Step::Begun) {
            self.pass_through(given, cx);
        }
    }

    /// The server has let us in; if it wanted to see the password, that was right.
    pub(super) fn on_trial_server(&mut self, link: usize, cx: &mut Cx<'_, S>) {
        let Some(given) = self.end_trial() else { return };
        let server = &self.links[link].server;
        // AuthenticationOk is one; whoever asks for something sends another one before.
        let has_asked = server.tally.auth_attempts + server.life.auth_attempts > 1;
        self.part_with(link, cx);
        if !has_asked {
            log::error!(
                "passthrough_auth: the server lets user {:?} in without a password: that proves nothing",
                self.who.user()
            );
            return self.judge(Verdict::Wrong, cx);
        }
        self.accept(credential(&given), cx);
        if let Some(cluster) = &self.cluster {
            cluster.learnt.prove(credential(&given), cx.world.epoch, cx.now);
        }
    }

    pub(super) fn on_trial_refused(&mut self, failure: Option<OpenFailure>, cx: &mut Cx<'_, S>) {
        self.end_trial();
        match &failure {
            // Class 28: invalid authorization specification.
            Some(OpenFailure::Refused(body))
                if error::field(body, b'C').is_some_and(|state| state.starts_with(b"28")) =>
            {
                self.judge(Verdict::Wrong, cx);
            }
            _ => self.fail_lookup(&unavailable(&failure), cx),
        }
    }

    pub(super) fn on_trial_time(&mut self, cx: &mut Cx<'_, S>) {
        self.fail_lookup("the server did not answer the login in time", cx);
    }

    /// Ends the pool of a trial: its server is closed as soon as it comes.
    pub(super) fn end_trial(&mut self) -> Option<Secret> {
        let State::Auth(auth) = &mut self.state else { return None };
        if !matches!(auth.step, Step::Trying(_)) {
            return None;
        }
        let Step::Trying(trial) = std::mem::replace(&mut auth.step, Step::Begun) else { return None };
        trial.pool.lock().state.retire();
        Some(trial.given)
    }
}
