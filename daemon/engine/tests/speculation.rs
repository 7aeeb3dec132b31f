//! Guesses change when tokens come, and nothing else: seeded simulations against the engine without guesses.

use std::ops::Range;
use std::time::{Duration, Instant};

use engine::sim::Scripted;
use engine::{Drafts, Event, Handle, Logprobs, Options, Request, Sampling, Speculation, Stats};
use model::Limits;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

const LIMITS: Limits = Limits { n_vocab: 40, context: 600, step_tokens: 24, kv_tokens: 600 };
const STOP: u32 = 39;
const SPECULATIONS: [Speculation; 3] =
    [Speculation::Lookup { tokens_max: 8 }, Speculation::Draft { tokens_max: 3 }, Speculation::Auto];

struct Dice(ChaCha8Rng);

impl Dice {
    fn in_range(&mut self, range: Range<usize>) -> usize {
        range.start + (self.0.next_u64() % range.len() as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.in_range(0..n) == 0
    }

    fn tokens(&mut self, n: Range<usize>, below: usize) -> Vec<u32> {
        let n = self.in_range(n);
        (0..n).map(|_| self.in_range(0..below) as u32).collect()
    }

    fn sampling(&mut self) -> Sampling {
        let seed = self.0.next_u64();
        let penalty = if self.one_in(2) { 1.2 } else { 1.0 };
        match self.in_range(0..4) {
            0 => Sampling::greedy(),
            1 => Sampling { repetition_penalty: penalty, frequency_penalty: 0.3, ..Sampling::greedy() },
            2 => Sampling {
                temperature: 0.8,
                top_p: 0.9,
                repetition_penalty: penalty,
                seed,
                ..Sampling::default()
            },
            _ => Sampling { temperature: 1.5, top_k: 10, presence_penalty: 0.5, seed, ..Sampling::default() },
        }
    }

    fn request(&mut self) -> Request {
        Request {
            prompt: self.tokens(1..60, 6),
            max_tokens: self.in_range(1..90),
            stop_ids: if self.one_in(2) { vec![STOP, 5] } else { vec![STOP] },
            sampling: self.sampling(),
            logprobs: self.one_in(3).then_some(2),
            owner: self.in_range(0..3) as u64,
        }
    }
}

/// A world that `seed` decides: a model, its requests, and after how many tokens each client leaves, if it does.
struct World {
    model: Scripted,
    requests: Vec<(Request, Option<usize>)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        // Short scripts repeat themselves, so that lookups are often right.
        let mut script = dice.tokens(2..30, 6);
        if dice.one_in(3) {
            script.push(STOP);
        }
        let noise = [2.0, 9.0, 12.0][dice.in_range(0..3)];
        let drafts_right = [0.5, 0.8, 1.0][dice.in_range(0..3)];
        let model = Scripted::new(LIMITS, script).noise(noise, seed).drafts_right(drafts_right);
        let mut request = || {
            let leaves = dice.one_in(5).then(|| dice.in_range(1..20));
            (dice.request(), leaves)
        };
        Self { model, requests: (0..14).map(|_| request()).collect() }
    }

    fn engine(&self, speculation: Speculation) -> Handle {
        let options = Options { speculation, prefill_tokens_beside_decode: 8, ..Options::default() };
        engine::start(Box::new(self.model.clone()), options)
    }
}

/// What a client has seen, times apart.
#[derive(Debug, PartialEq)]
enum Seen {
    Queued(usize),
    Prefill(usize, usize),
    Token(u32, Option<Logprobs>),
    End(String),
}

impl Seen {
    fn new(event: Event) -> Self {
        match event {
            Event::Queued { ahead } => Self::Queued(ahead),
            Event::Prefill { done, total } => Self::Prefill(done, total),
            Event::Token { id, logprobs } => Self::Token(id, logprobs),
            Event::Finished { reason, timings } => {
                Self::End(format!("{reason:?} {} {}", timings.n_prompt, timings.n_generated))
            }
            Event::Failed { message } => panic!("failed: {message}"),
        }
    }

    /// True of what does not depend on who else is in the batch.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Token(..) | Self::End(_))
    }
}

/// The answers to all requests, submitted at once, and the engine's counters.
fn crowd(world: &World, speculation: Speculation) -> (Vec<Vec<Seen>>, Stats) {
    let handle = world.engine(speculation);
    let generations: Vec<_> =
        world.requests.iter().map(|(request, _)| handle.submit(request.clone()).expect("accepted")).collect();
    let answers = generations.into_iter().zip(&world.requests).map(|(mut generation, (_, leaves))| {
        let events = std::iter::from_fn(|| generation.blocking_next()).map(Seen::new).filter(Seen::is_answer);
        events.take(leaves.unwrap_or(usize::MAX)).collect()
    });
    let answers = answers.collect();
    wait_until(|| handle.stats().running + handle.stats().waiting == 0);
    takes_all_memory(&handle);
    (answers, handle.stats())
}

/// One sequence can have the whole cache: what ran before has left nothing behind.
fn takes_all_memory(handle: &Handle) {
    let n_prompt = 10;
    let request = Request {
        prompt: vec![1; n_prompt],
        max_tokens: LIMITS.kv_tokens - n_prompt,
        stop_ids: Vec::new(),
        sampling: Sampling { temperature: 5.0, ..Sampling::default() },
        logprobs: None,
        owner: 9,
    };
    let before = handle.stats().finished_total;
    let _generation = handle.submit(request).expect("accepted");
    wait_until(|| handle.stats().finished_total == before + 1);
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within twenty seconds");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_crowd_gets_the_answers_it_gets_without_guesses() {
    let mut drafts = [Drafts::default(); 2];
    for seed in 0..25 {
        let world = World::new(seed);
        let (want, stats) = crowd(&world, Speculation::Off);
        assert_eq!((stats.lookup, stats.draft_layer), Default::default(), "seed {seed}: off is off");
        for speculation in SPECULATIONS {
            let (got, stats) = crowd(&world, speculation);
            for (idx, (got, want)) in got.iter().zip(&want).enumerate() {
                assert_eq!(got, want, "seed {seed}, {speculation:?}, request {idx}");
            }
            for (sum, new) in drafts.iter_mut().zip([stats.lookup, stats.draft_layer]) {
                sum.drafted_total += new.drafted_total;
                sum.accepted_total += new.accepted_total;
            }
        }
    }
    for Drafts { drafted_total, accepted_total } in drafts {
        let wrong = drafted_total - accepted_total;
        assert!(accepted_total > 400 && wrong > 400, "the guesses were put to the test: {drafts:?}");
    }
}

#[test]
fn alone_every_event_is_the_same_and_so_is_the_next_turn() {
    for seed in 100..140 {
        let world = World::new(seed);
        let [off, guessing] =
            [Speculation::Off, SPECULATIONS[seed as usize % 3]].map(|speculation| world.engine(speculation));
        for (idx, (request, _)) in world.requests.iter().enumerate() {
            let turn = |handle: &Handle, request: &Request| -> (Vec<Seen>, Vec<u32>, usize) {
                let mut generation = handle.submit(request.clone()).expect("accepted");
                let events: Vec<Event> = std::iter::from_fn(|| generation.blocking_next()).collect();
                let n_cached = match events.last() {
                    Some(Event::Finished { timings, .. }) => timings.n_cached,
                    other => panic!("{other:?}"),
                };
                wait_until(|| handle.stats().running == 0);
                let events: Vec<Seen> = events.into_iter().map(Seen::new).collect();
                let said =
                    events.iter().filter_map(|e| if let Seen::Token(id, _) = e { Some(*id) } else { None });
                let prompt = request.prompt.iter().copied().chain(said).chain([7, 8]).collect();
                (events, prompt, n_cached)
            };
            let (want, got) = (turn(&off, request), turn(&guessing, request));
            assert_eq!(got, want, "seed {seed}, request {idx}");
            let next = Request { prompt: want.1, ..request.clone() };
            assert_eq!(turn(&guessing, &next), turn(&off, &next), "seed {seed}, request {idx}, next turn");
        }
    }
}

/// Runs one greedy answer of `max_tokens`; steps that decoded, and the counters.
fn decode_steps(model: Scripted, speculation: Speculation, max_tokens: usize) -> (u64, Stats) {
    let handle = engine::start(Box::new(model), Options { speculation, ..Options::default() });
    let request = Request {
        prompt: vec![7; LIMITS.step_tokens],
        max_tokens,
        stop_ids: vec![STOP],
        sampling: Sampling::greedy(),
        logprobs: None,
        owner: 0,
    };
    let _generation = handle.submit(request).expect("accepted");
    wait_until(|| handle.stats().steps_total > 0 && handle.stats().running == 0);
    (handle.stats().steps_total - 1, handle.stats())
}

#[test]
fn a_draft_layer_that_is_always_right_halves_the_steps() {
    let model = Scripted::new(LIMITS, vec![1, 2, 3]).drafts_right(1.0);
    let (steps, stats) = decode_steps(model, Speculation::Draft { tokens_max: 1 }, 41);
    assert_eq!((steps, stats.generated_tokens_total), (20, 41));
    assert_eq!(stats.draft_layer, Drafts { drafted_total: 20, accepted_total: 20 });
    assert_eq!(stats.lookup, Drafts::default());
}

#[test]
fn a_draft_layer_that_is_always_wrong_is_hardly_asked() {
    let model = Scripted::new(LIMITS, vec![1, 2, 3]).drafts_right(0.0);
    let (steps, stats) = decode_steps(model, Speculation::Draft { tokens_max: 3 }, 101);
    assert_eq!((steps, stats.generated_tokens_total), (100, 101));
    assert_eq!(stats.draft_layer.accepted_total, 0);
    assert!((1..20).contains(&stats.draft_layer.drafted_total), "{stats:?}");
}

#[test]
fn every_accepted_token_saves_a_step() {
    let script: Vec<u32> = (0..10).collect();
    let lookup = Speculation::Lookup { tokens_max: 8 };
    let (steps, stats) = decode_steps(Scripted::new(LIMITS, script), lookup, 301);
    assert_eq!(steps + stats.lookup.accepted_total, 300);
    assert!(steps < 100, "{steps} steps for a text that repeats itself");
    assert_eq!(stats.lookup.accepted_total, stats.lookup.drafted_total, "it does nothing else");
}
