//! Whether reading guesses pays: where the drive idles it is tried in turn with not reading them, and left off where it
//! loses.

use std::time::{Duration, Instant};

/// Steps of one kind before the other kind's turn: guesses of one step help the next.
const TURN_STEPS: u32 = 8;
/// Turns of each kind that decide.
const TURNS: usize = 5;
/// Turns of each kind after which a clear loss is enough: what it reads in vain is read from a drive that others wait for.
const TURNS_MIN: usize = 2;
/// A loss is clear where every turn with guesses was slower, by as much, than every turn without.
const CLEAR_LOSS: f64 = 1.05;
/// Steps after which it is tried again: habits and caches change.
const SETTLED_STEPS: u32 = 2048;
/// Share of a step in which the drive has to idle for a trial: where it has no time, a guess only delays what is wanted.
const IDLE_MIN: f64 = 0.25;
/// A gain below this is none: guesses cost reads that others may want.
const GAIN_MIN: f64 = 1.02;

/// Times steps with and without guesses in turn.
#[derive(Debug)]
pub(crate) struct Trial {
    guessing: bool,
    /// Steps of this turn, or, once it is settled, since then.
    n_steps: u32,
    took: Duration,
    /// Of that, with a read under way.
    busy: Duration,
    /// When the step began, and how long reads had been under way until then.
    began: Option<(Instant, Duration)>,
    /// Time a step took, by turn: without and with guesses.
    turns: [Vec<f64>; 2],
    settled: bool,
    /// Time a step takes without guesses as a multiple of that with them; 0 until it was measured.
    gain: f64,
}

impl Default for Trial {
    fn default() -> Self {
        Self {
            guessing: false,
            n_steps: 0,
            took: Duration::ZERO,
            busy: Duration::ZERO,
            began: None,
            turns: [Vec::new(), Vec::new()],
            settled: false,
            gain: 0.0,
        }
    }
}

impl Trial {
    /// A step of decoding begins; so far reads were under way for `busy`.
    pub(crate) fn begin_step(&mut self, now: Instant, busy: Duration) {
        self.began = Some((now, busy));
    }

    /// Whether to guess in this step.
    pub(crate) fn is_guessing(&self) -> bool {
        self.guessing && self.began.is_some()
    }

    /// The speed gained by guessing, as measured last; 0 before.
    pub(crate) fn gain(&self) -> f64 {
        self.gain
    }

    /// The step has ended; so far reads were under way for `busy`.
    pub(crate) fn end_step(&mut self, now: Instant, busy: Duration) {
        let Some((began, busy_before)) = self.began.take() else { return };
        self.n_steps += 1;
        if self.settled {
            if self.n_steps >= SETTLED_STEPS {
                *self = Self { gain: self.gain, ..Self::default() };
            }
            return;
        }
        // The first step of a turn still lives on what the turn before has read.
        if self.n_steps > 1 {
            self.took += now - began;
            self.busy += busy - busy_before;
        }
        if self.n_steps < TURN_STEPS {
            return;
        }
        self.end_turn();
    }

    fn end_turn(&mut self) {
        let idle = 1.0 - self.busy.as_secs_f64() / self.took.as_secs_f64().max(f64::MIN_POSITIVE);
        if !self.guessing && idle < IDLE_MIN {
            *self = Self { settled: true, gain: self.gain, ..Self::default() };
            return;
        }
        let step_s = self.took.as_secs_f64() / f64::from(TURN_STEPS - 1);
        self.turns[usize::from(self.guessing)].push(step_s);
        (self.n_steps, self.took, self.busy) = (0, Duration::ZERO, Duration::ZERO);
        self.guessing = !self.guessing;
        if self.turns[1].len() == TURNS || self.is_lost() {
            let [without, with] = self.turns.each_mut().map(|turns| median(turns));
            self.gain = without / with.max(f64::MIN_POSITIVE);
            self.guessing = self.gain >= GAIN_MIN;
            self.settled = true;
        }
    }

    /// Whether guesses lose so clearly that more turns would not change it.
    fn is_lost(&self) -> bool {
        let [without, with] = &self.turns;
        let worst = without.iter().copied().fold(0.0, f64::max);
        with.len() >= TURNS_MIN && with.iter().all(|step_s| *step_s >= CLEAR_LOSS * worst)
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs steps that take so many microseconds without and with guesses, of which reads take `read_us`.
    fn run_reading(trial: &mut Trial, n_steps: u32, us: [u64; 2], read_us: u64) -> usize {
        let (mut now, mut busy) = (Instant::now(), Duration::ZERO);
        let mut n_guessing = 0;
        for _ in 0..n_steps {
            trial.begin_step(now, busy);
            n_guessing += usize::from(trial.is_guessing());
            now += Duration::from_micros(us[usize::from(trial.is_guessing())]);
            busy += Duration::from_micros(read_us);
            trial.end_step(now, busy);
        }
        n_guessing
    }

    fn run(trial: &mut Trial, n_steps: u32, us: [u64; 2]) -> usize {
        run_reading(trial, n_steps, us, 50)
    }

    #[test]
    fn a_busy_drive_is_left_alone() {
        assert_eq!(run_reading(&mut Trial::default(), 200, [100, 50], 80), 0);
        assert!(run_reading(&mut Trial::default(), 200, [100, 50], 70) > 100);
    }

    #[test]
    fn what_pays_stays_and_what_loses_goes() {
        let deciding = TURN_STEPS * 2 * TURNS as u32;
        for (us, stays) in [([100, 80], true), ([100, 103], false), ([100, 99], false)] {
            let mut trial = Trial::default();
            assert_eq!(run(&mut trial, deciding, us), deciding as usize / 2, "in turn");
            assert_eq!(run(&mut trial, 100, us), if stays { 100 } else { 0 });
            assert!((trial.gain() - us[0] as f64 / us[1] as f64).abs() < 1e-6);
        }
    }

    #[test]
    fn a_clear_loss_ends_it_early() {
        let deciding = TURN_STEPS * 2 * TURNS_MIN as u32;
        let mut trial = Trial::default();
        assert_eq!(run(&mut trial, deciding + 100, [100, 115]), deciding as usize / 2);
        assert!((trial.gain() - 100.0 / 115.0).abs() < 1e-6);
    }

    #[test]
    fn it_is_tried_again_later() {
        let mut trial = Trial::default();
        run(&mut trial, TURN_STEPS * 2 * TURNS as u32 + SETTLED_STEPS, [100, 103]);
        assert_eq!(run(&mut trial, 2 * TURN_STEPS, [100, 103]), TURN_STEPS as usize);
    }
}
