//! How many guesses pay.

/// Share of right guesses that a sequence is credited with before it has made any, at least.
const START: f32 = 0.5;
/// A guess has to be right more often than its row costs, by this much: drafting takes time too.
const PAYS: f32 = 0.15;
/// More guesses than one have to be right more often than a row costs, by this much: those behind a wrong one are lost.
const PAYS_MANY: f32 = 0.5;
/// What one more guess counts for.
const WEIGHT: f32 = 0.125;
/// How fast a bad record is forgotten while no guesses are made, a step: about one trial every 40 steps.
const FORGETTING: f32 = 1.0 / 256.0;

/// The recent acceptance rate of one source's guesses for one sequence: an exponential average over guesses that were
/// looked at (those after a wrong one are not).
///
/// ```text
/// rate      0       cost + 0.15     cost + 0.5       1
/// guesses   |   none    |     one       |    many    |
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Confidence {
    rate: f32,
    start: f32,
    pays: f32,
    pays_many: f32,
}

impl Confidence {
    /// `row_cost`: what one more row adds to a step, as a share of a step of one row.
    pub(super) fn new(row_cost: f32) -> Self {
        let pays = row_cost + PAYS;
        // Worth a trial, whatever it costs.
        let start = START.max(pays + 0.05).min(1.0);
        Self { rate: start, start, pays, pays_many: (row_cost + PAYS_MANY).min(0.95) }
    }

    /// Guesses worth making, of `max` possible.
    pub(super) fn n_guesses(self, max: usize) -> usize {
        match self.rate {
            rate if rate < self.pays => 0,
            rate if rate < self.pays_many => max.min(1),
            _ => max,
        }
    }

    /// Of `n_drafted` guesses the first `n_accepted` were right.
    pub(super) fn judge(&mut self, n_drafted: usize, n_accepted: usize) {
        for _ in 0..n_accepted {
            self.rate += (1.0 - self.rate) * WEIGHT;
        }
        if n_accepted < n_drafted {
            self.rate -= self.rate * WEIGHT;
        }
    }

    /// A step went by without a guess.
    pub(super) fn forget(&mut self) {
        self.rate += (self.start - self.rate).max(0.0) * FORGETTING;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_guesses_end_and_are_tried_again_rarely() {
        let mut confidence = Confidence::new(0.15);
        let mut n_tried = 0;
        for _ in 0..1000 {
            match confidence.n_guesses(8) {
                0 => confidence.forget(),
                n => {
                    n_tried += 1;
                    confidence.judge(n, 0);
                }
            }
        }
        assert!((10..60).contains(&n_tried), "{n_tried} trials in 1000 steps");
    }

    #[test]
    fn a_costly_row_wants_better_guesses() {
        let (mut cheap, mut costly) = (Confidence::new(0.15), Confidence::new(0.55));
        assert_eq!((cheap.n_guesses(3), costly.n_guesses(3)), (1, 1), "both are tried");
        for _ in 0..40 {
            for confidence in [&mut cheap, &mut costly] {
                confidence.judge(1, 1);
                confidence.judge(1, 0);
            }
        }
        assert_eq!((cheap.n_guesses(3), costly.n_guesses(3)), (1, 0), "half of them are right");
    }

    #[test]
    fn right_guesses_become_many_and_one_wrong_one_is_forgiven() {
        let mut confidence = Confidence::new(0.15);
        assert_eq!(confidence.n_guesses(8), 1);
        for _ in 0..10 {
            let n = confidence.n_guesses(8);
            confidence.judge(n, n);
        }
        assert_eq!(confidence.n_guesses(8), 8);
        confidence.judge(8, 3);
        assert_eq!(confidence.n_guesses(8), 8);
        assert_eq!(confidence.n_guesses(0), 0);
    }
}
