//! What a stolen token is worth: a thief and his victim side by side, minute by minute, under the default policy. The table in
//! docs/security/theft.md is what comes out; with `CLOAKROOM_WRITE` set this test writes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::fmt::Write as _;
use std::path::Path;

use cloakroom::{EventKind, MemoryStore};

use crate::common::{Client, FIREFOX, World};

const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security/theft.md");
const BEGIN: &str = "<!-- The table is written by crates/cloakroom/tests/thief.rs. -->\n";
const END: &str = "\n<!-- End of the table. -->";
/// The token is stolen five minutes after login, and the simulation goes on for 25 hours.
const THEFT: u32 = 5;
const HOURS: u32 = 25;

/// Where the thief uses the token.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Beside,
    Elsewhere,
    /// On the user's network, with another browser.
    Other,
}

/// How he comes by it.
#[derive(Clone, Copy, PartialEq)]
enum Theft {
    Once,
    Always,
}

/// When he uses it.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Constantly,
    Later,
}

/// What the user does.
#[derive(Clone, Copy, PartialEq)]
enum User {
    Works,
    Returns,
    Gone,
    LogsOut,
}

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// The last minute at which the thief was served, counted from the theft.
    served: Option<u32>,
    /// What was reported first, and when.
    noticed: Option<(u32, &'static str)>,
    /// When the session ended, and by which event.
    ended: Option<(u32, String)>,
}

fn simulate(place: Place, theft: Theft, usage: Use, user: User) -> Outcome {
    let world = World::new(MemoryStore::new());
    let mut victim = world.client();
    victim.address = Some("192.0.2.10".to_owned());
    victim.ask("/log-in/alice");
    for _ in 0..THEFT {
        world.advance(60);
        victim.ask("/who");
    }
    let mut thief: Client = victim.clone();
    match place {
        Place::Beside => thief.address = Some("192.0.2.77".to_owned()),
        Place::Elsewhere => thief.address = Some("198.51.100.5".to_owned()),
        Place::Other => {
            thief.address = Some("192.0.2.77".to_owned());
            thief.agent = CHROME.to_owned();
        }
    }
    assert_eq!(victim.agent, FIREFOX);
    world.log.take();

    let mut outcome = Outcome::default();
    let mut logged_out = false;
    for minute in 1..=HOURS * 60 {
        world.advance(60);
        let active = match user {
            User::Works => true,
            User::Returns => minute >= 120,
            User::Gone => false,
            User::LogsOut => minute <= 10,
        };
        if user == User::LogsOut && minute == 10 {
            victim.ask("/log-out");
            logged_out = true;
        } else if active && !logged_out {
            victim.ask("/who");
        }
        if theft == Theft::Always {
            // Whatever the browser holds now; once it holds nothing, what it held last.
            thief.token = victim.token.clone().or(thief.token);
        }
        let now = match usage {
            Use::Constantly => true,
            Use::Later => minute >= 40,
        };
        if now && thief.token.is_some() {
            let answer = thief.ask("/who");
            if answer.body.starts_with("alice") {
                outcome.served = Some(minute);
            }
        }
        sort_out(&world, minute, &mut outcome);
    }
    outcome
}

fn sort_out(world: &World, minute: u32, outcome: &mut Outcome) {
    for event in world.log.take() {
        let signal = match event.kind {
            EventKind::StrangerNotRenewed | EventKind::Replayed { .. } => Some(event.kind.name()),
            _ => None,
        };
        if let Some(name) = signal {
            outcome.noticed.get_or_insert((minute, name));
        }
        let end = match event.kind {
            EventKind::Replayed { ended: true } => Some("theft noticed".to_owned()),
            EventKind::Ended(reason) | EventKind::UsedAfterEnd(reason) | EventKind::Expired(reason) => {
                Some(reason.name().replace('_', " "))
            }
            _ => None,
        };
        if let Some(end) = end {
            outcome.ended.get_or_insert((minute, end));
        }
    }
}

fn table() -> String {
    let mut table = String::from(
        "| the thief | has | uses it | the user | is served until | reported | the session ends |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (place, where_from) in [
        (Place::Beside, "on the user's network, with the same kind of browser"),
        (Place::Elsewhere, "elsewhere, or with another kind of browser"),
    ] {
        for (theft, has) in [(Theft::Once, "one copy"), (Theft::Always, "every new copy")] {
            for (usage, uses) in [(Use::Constantly, "all the time"), (Use::Later, "from 40 min on")] {
                for (user, does) in [
                    (User::Works, "goes on working"),
                    (User::Returns, "comes back after 2 h"),
                    (User::Gone, "has left for good"),
                    (User::LogsOut, "logs out after 10 min"),
                ] {
                    let outcome = simulate(place, theft, usage, user);
                    if place == Place::Elsewhere {
                        assert_eq!(outcome, simulate(Place::Other, theft, usage, user));
                    }
                    let at = |minute| match minute {
                        0..=119 => format!("{minute} min"),
                        _ => format!("{} h {:02} min", minute / 60, minute % 60),
                    };
                    let served = outcome.served.map_or("never".to_owned(), at);
                    let noticed = outcome
                        .noticed
                        .map_or("no".to_owned(), |(minute, name)| format!("`{name}`, {}", at(minute)));
                    let ended = outcome
                        .ended
                        .map_or("no".to_owned(), |(minute, how)| format!("{}: {how}", at(minute)));
                    writeln!(
                        table,
                        "| {where_from} | {has} | {uses} | {does} | {served} | {noticed} | {ended} |"
                    )
                    .unwrap();
                }
            }
        }
    }
    table
}

#[test]
fn r052_r105_the_table_of_what_a_stolen_token_is_worth_is_what_the_simulation_gives() {
    let table = table();
    let path = Path::new(PAGE);
    let page = std::fs::read_to_string(path).unwrap_or_else(|_| format!("{BEGIN}{END}\n"));
    let (before, rest) = page.split_once(BEGIN).expect("the page has the mark of the table");
    let (_, after) = rest.split_once(END).expect("the page has the end of the table");
    let should = format!("{before}{BEGIN}\n{table}{END}{after}");
    if std::env::var_os("CLOAKROOM_WRITE").is_some() {
        std::fs::write(path, &should).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).is_ok_and(|page| page == should),
        "docs/security/theft.md is out of date; run CLOAKROOM_WRITE=1 cargo test -p cloakroom --test thief"
    );
}
