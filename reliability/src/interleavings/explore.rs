use std::time::Duration;

use cloakroom::AtCap;

use super::stage::{Order, Stage};
use super::{Actor, Outcome};
use crate::gate::Grain;
use crate::target::{Target, block_on};

/// Under what circumstances the actors meet.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Where the steps are parted.
    pub grain: Grain,
    /// Whether each handler works on for a step once it is done with its session.
    pub works: bool,
    /// Whether all requests arrive before the first step; otherwise each arrival is a step.
    pub together: bool,
    /// How far the clocks of the actors' gateways are ahead, in seconds. The gateways without a figure are right.
    pub skews: Vec<i64>,
    /// Whether the clocks of the actors' gateways are set back by a second with every step.
    pub set_back: bool,
    /// A cap on the user's sessions; the browser's and the other device's count.
    pub cap: Option<(u32, AtCap)>,
}

impl Variant {
    /// Steps are store calls and arrivals, clocks are right, and there is no cap.
    pub const fn plain() -> Self {
        Self {
            grain: Grain::Calls,
            works: false,
            together: false,
            skews: Vec::new(),
            set_back: false,
            cap: None,
        }
    }
}

/// What an exploration went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Orders of steps.
    pub interleavings: u64,
    /// Steps in all of them.
    pub steps: u64,
}

impl std::ops::AddAssign for Found {
    fn add_assign(&mut self, other: Self) {
        self.interleavings += other.interleavings;
        self.steps += other.steps;
    }
}

/// What comes of an actor that is alone.
pub fn alone<T: Target>(target: &T, actor: Actor) -> Outcome {
    run(target, &[actor], &Variant::plain(), &mut |ready| ready[0]).0
}

/// Goes through every order of the actors' steps and holds each against [the rule](super#the-rule).
///
/// # Panics
///
/// With the order, what came of it and what was allowed, if the rule is broken.
pub fn explore<T: Target>(target: &T, actors: &[Actor], variant: &Variant) -> Found {
    let serial = one_after_the_other(target, actors, variant);
    let mut smaller: Vec<Option<Vec<Outcome>>> = vec![None; actors.len()];
    let mut path = Path::default();
    let mut found = Found::default();
    loop {
        path.at = 0;
        let (outcome, trace) = run(target, actors, variant, &mut |ready| ready[path.choose(ready.len())]);
        let mut allowed = serial.iter().any(|serial| outcome.is_as_good_as(serial, actors));
        for late in (0..actors.len()).filter(|&index| outcome.came_too_late(index, actors)) {
            let mut others = actors.to_vec();
            others[late] = Actor::Nobody;
            let serial = smaller[late].get_or_insert_with(|| one_after_the_other(target, &others, variant));
            allowed |= serial.iter().any(|serial| outcome.without(late).is_as_good_as(serial, &others));
        }
        assert!(
            allowed,
            "{actors:?} on {} under {variant:?}, in the order\n  {trace:?}\ncame to\n  {outcome:?}\n\
             but one after the other they come to\n  {serial:#?}",
            T::NAME
        );
        found += Found { interleavings: 1, steps: trace.len() as u64 };
        if !path.next() {
            return found;
        }
    }
}

/// What comes of the actors in each sequential order.
fn one_after_the_other<T: Target>(target: &T, actors: &[Actor], variant: &Variant) -> Vec<Outcome> {
    let variant = Variant { together: false, ..variant.clone() };
    permutations(actors.len())
        .into_iter()
        .map(|order| run(target, actors, &variant, &mut |ready| first_of(&order, ready)).0)
        .collect()
}

fn run<T: Target>(
    target: &T,
    actors: &[Actor],
    variant: &Variant,
    choose: &mut dyn FnMut(&[usize]) -> usize,
) -> (Outcome, Order) {
    block_on(async {
        let run = async {
            let stage = Stage::set(target.store(), actors, variant).await;
            stage.play(choose).await
        };
        tokio::time::timeout(Duration::from_secs(120), run).await.expect("a step that came to no end")
    })
}

/// The first of `order` that is ready.
fn first_of(order: &[usize], ready: &[usize]) -> usize {
    order.iter().copied().find(|index| ready.contains(index)).expect("somebody is ready")
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    let longer = shorter.iter().flat_map(|order| {
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, count - 1);
            order
        })
    });
    longer.collect()
}

/// The way through the tree of choices: depth first, each leaf once.
#[derive(Debug, Default)]
struct Path {
    /// The choice made at each branching, and how many there were.
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Path {
    fn choose(&mut self, choices: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, choices));
        }
        let (choice, before) = self.taken[self.at];
        if before != choices {
            // A login that was in doubt once and is not now: what lies behind is another tree.
            self.taken.truncate(self.at);
            self.taken.push((0, choices));
        }
        self.at += 1;
        if before == choices { choice } else { 0 }
    }

    /// Goes to the next leaf; `false` after the last.
    fn next(&mut self) -> bool {
        while let Some((choice, choices)) = self.taken.pop() {
            if choice + 1 < choices {
                self.taken.push((choice + 1, choices));
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_a_tree_is_visited_once() {
        let mut path = Path::default();
        let mut leaves = Vec::new();
        loop {
            path.at = 0;
            let mut leaf = vec![path.choose(3)];
            // The tree is deeper on one side.
            if leaf[0] == 1 {
                leaf.push(path.choose(2));
            }
            leaves.push(leaf);
            if !path.next() {
                break;
            }
        }
        assert_eq!(leaves, [vec![0], vec![1, 0], vec![1, 1], vec![2]]);
    }

    #[test]
    fn three_can_come_in_six_orders() {
        let mut orders = permutations(3);
        orders.sort();
        orders.dedup();
        assert_eq!(orders.len(), 6);
    }
}
