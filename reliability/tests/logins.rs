//! Hundreds of logins of one user at once, under a cap, through two gateways that share the store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloakroom::{AtCap, Policy, Reason};
use cloakroom_core::record::Subject;
use cloakroom_core::store::{BySubject as _, Found};
use cloakroom_reliability::on_every_store;
use cloakroom_reliability::report::Row;
use cloakroom_reliability::size::Size;
use cloakroom_reliability::target::{Target, block_on, runtime};
use cloakroom_reliability::world::{Answer, Ask, Plan, SentCookie, World, handle_of};
use tokio::sync::Barrier;

const CAP: u32 = 5;

struct Crowd<S> {
    world: World<S>,
    subject: Subject,
}

impl<S: cloakroom_testkit::suite::FullStore> Crowd<S> {
    fn new<T: Target<Store = S>>(target: &T, at_cap: AtCap, round: u64) -> Self {
        let policy = Policy::default().max_sessions(CAP, at_cap);
        let plan = Plan { policy, skews: vec![0, 0], seed: 2_000_000 + round };
        let world = World::new(target.store(), &plan);
        world.advance(Duration::from_secs(1));
        Self { world, subject: Subject::new(format!("alice {at_cap:?} {round}")).unwrap() }
    }

    /// Lets so many logins begin, wait for one another, and complete at once. Among them, all sessions may be ended.
    async fn log_in(&self, logins: usize, revoke: bool) -> Vec<Answer> {
        let barrier = Arc::new(Barrier::new(logins + usize::from(revoke)));
        let mut waiting = Vec::new();
        for number in 0..logins {
            let gateway = &self.world.gateways[number % 2];
            let ask = Ask::LogInTogether(self.subject.to_string(), Arc::clone(&barrier));
            waiting.push(runtime().spawn(gateway.send(ask, None)));
        }
        if revoke {
            let sessions = self.world.first().layer.sessions();
            let subject = self.subject.to_string();
            runtime()
                .spawn(async move {
                    barrier.wait().await;
                    sessions.end_all(subject).await.unwrap();
                })
                .await
                .unwrap();
        }
        let mut answers = Vec::new();
        for answer in waiting {
            answers.push(answer.await.unwrap());
        }
        answers
    }

    /// Presents every token that was handed out.
    async fn use_all(&self, answers: &[Answer]) {
        for answer in answers {
            if let SentCookie::Set(token) = &answer.cookie {
                drop(self.world.first().send(Ask::Read, Some(token)).await);
            }
        }
    }

    /// What became of the sessions that were handed out, and how many are listed.
    async fn fates(&self, answers: &[Answer]) -> (BTreeMap<&'static str, usize>, usize) {
        let mut fates = BTreeMap::new();
        for answer in answers {
            let fate = match &answer.cookie {
                SentCookie::Set(token) => match self.world.found(handle_of(token)).await {
                    Found::Live(_) => "live",
                    Found::Ended(tombstone) => tombstone.reason().name(),
                    Found::Absent => panic!("a login that succeeded left no trace"),
                },
                _ => "none",
            };
            *fates.entry(fate).or_default() += 1;
        }
        (fates, self.world.store.list(&self.subject).await.unwrap().len())
    }
}

fn statuses(answers: &[Answer]) -> BTreeMap<u16, usize> {
    let mut statuses = BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer.status.as_u16()).or_default() += 1;
    }
    statuses
}

fn capped<T: Target>(at_cap: AtCap) {
    let mut row = Row::new(T::NAME, "parallel logins");
    let (target, size) = (T::open(), Size::asked_for());
    let (logins, cap) = (size.logins(), CAP as usize);
    for round in 0..size.login_rounds() {
        let crowd = Crowd::new(&target, at_cap, round);
        let answers = block_on(crowd.log_in(logins, false));
        let (fates, listed) = block_on(crowd.fates(&answers));
        assert_eq!(listed, cap, "the cap is filled exactly");
        // Nobody has used a token yet, so the next login takes the place of an earlier one, also under a cap that denies.
        assert_eq!(statuses(&answers), BTreeMap::from([(200, logins)]));
        assert_eq!(fates, BTreeMap::from([("live", cap), (Reason::Evicted.name(), logins - cap)]));
        if at_cap == AtCap::Deny {
            block_on(crowd.use_all(&answers));
            let late = block_on(crowd.log_in(logins, false));
            assert_eq!(statuses(&late), BTreeMap::from([(403, logins)]));
            assert_eq!(block_on(crowd.fates(&answers)), (fates, cap), "those in use stay");
        }
        row.count("runs", 1);
        row.count("logins", logins as u64);
        row.count("operations", crowd.world.store.take().total());
    }
}

fn revoked<T: Target>(at_cap: AtCap) {
    let mut row = Row::new(T::NAME, "parallel logins");
    let (target, size) = (T::open(), Size::asked_for());
    let (logins, cap) = (size.logins(), CAP as usize);
    for round in 0..size.login_rounds() {
        let crowd = Crowd::new(&target, at_cap, 100 + round);
        // All have begun, by reading the epoch, before all sessions are ended: none may survive.
        let answers = block_on(crowd.log_in(logins, true));
        let (fates, listed) = block_on(crowd.fates(&answers));
        assert_eq!((listed, fates.get("live")), (0, None), "{fates:?}: a login survived");
        let count = |status| statuses(&answers).get(&status).copied().unwrap_or(0);
        let (admitted, full, beaten) = (count(200), count(403), count(409));
        assert_eq!(admitted + full + beaten, logins);
        let ended = |reason: Reason| fates.get(reason.name()).copied().unwrap_or(0);
        assert_eq!(ended(Reason::RevokedAll) + ended(Reason::Evicted), admitted);
        assert!(ended(Reason::RevokedAll) <= cap, "more than the cap were live when all were ended");
        assert!(full == 0 || ended(Reason::RevokedAll) == cap, "refused though there was room");
        // Those who come later are admitted, up to the cap.
        let later = block_on(crowd.log_in(logins, false));
        let (_, listed) = block_on(crowd.fates(&later));
        assert_eq!(listed, cap);
        row.count("runs", 1);
        row.count("logins", 2 * logins as u64);
        row.count("operations", crowd.world.store.take().total());
    }
}

fn deny<T: Target>() {
    capped::<T>(AtCap::Deny);
}

fn evict_oldest<T: Target>() {
    capped::<T>(AtCap::EvictOldest);
}

fn evict_idle<T: Target>() {
    capped::<T>(AtCap::EvictIdle);
}

fn deny_and_revoke<T: Target>() {
    revoked::<T>(AtCap::Deny);
}

fn evict_and_revoke<T: Target>() {
    revoked::<T>(AtCap::EvictOldest);
}

on_every_store! {
    fn r069_hundreds_of_logins_fill_a_cap_that_denies_exactly => deny;
    fn r069_hundreds_of_logins_leave_a_cap_full_that_evicts_the_oldest => evict_oldest;
    fn r069_hundreds_of_logins_leave_a_cap_full_that_evicts_the_idle => evict_idle;
    fn r056_r069_no_login_under_a_cap_survives_an_end_of_all_sessions_that_it_races => deny_and_revoke;
    fn r056_r069_no_login_that_evicts_survives_an_end_of_all_sessions_that_it_races => evict_and_revoke;
}
