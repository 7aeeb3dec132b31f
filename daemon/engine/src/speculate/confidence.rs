//! How many guesses pay.

/// Share of right guesses that a sequence is credited with before it has made any.
const START: f32 = 0.5;
/// Below it a guess costs more time than it saves: a second row makes a step 1.15 times as long for a dense model (SmolLM2 on
/// two cores: 1, 2, 3 and 4 rows took 9.8, 11.3, 13.8 and 15.7 ms), up to 1.5 times where it wants experts of its own.
const PAYS: f32 = 0.3;
/// From here on more guesses than one pay.
const PAYS_MANY: f32 = 0.65;
/// What one more guess counts for.
const WEIGHT: f32 = 0.125;
/// How fast a bad record is forgotten while no guesses are made, a step: about one trial every 40 steps.
const FORGETTING: f32 = 1.0 / 256.0;

/// The recent acceptance rate of one source's guesses for one sequence: an exponential average over guesses that were
/// looked at (those after a wrong one are not).
///
/// ```text
/// rate      0        0.3         0.65         1
/// guesses   |  none   |    one     |   many   |
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Confidence {
    rate: f32,
}

impl Default for Confidence {
    fn default() -> Self {
        Self { rate: START }
    }
}

impl Confidence {
    /// Guesses worth making, of `max` possible.
    pub(super) fn n_guesses(self, max: usize) -> usize {
        match self.rate {
            rate if rate < PAYS => 0,
            rate if rate < PAYS_MANY => max.min(1),
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
        self.rate += (START - self.rate).max(0.0) * FORGETTING;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_guesses_end_and_are_tried_again_rarely() {
        let mut confidence = Confidence::default();
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
    fn right_guesses_become_many_and_one_wrong_one_is_forgiven() {
        let mut confidence = Confidence::default();
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
