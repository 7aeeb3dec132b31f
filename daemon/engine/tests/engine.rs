//! The engine over a scripted model: batching, limits, cancellation, failure.

use std::time::{Duration, Instant};

use engine::sim::Scripted;
use engine::{Event, FinishReason, Generation, Handle, Options, Request, Sampling, SubmitError};
use model::Limits;

const LIMITS: Limits = Limits { n_vocab: 50, context: 64, step_tokens: 16, kv_tokens: 256 };
const STOP: u32 = 49;

fn engine(script: &[u32]) -> Handle {
    engine::start(Box::new(Scripted::new(LIMITS, script.to_vec())), Options::default())
}

fn slow(step_ms: u64, options: Options) -> Handle {
    let model = Scripted::new(LIMITS, vec![1, 2, 3]).step_time(Duration::from_millis(step_ms));
    engine::start(Box::new(model), options)
}

fn request(n_prompt: usize, max_tokens: usize) -> Request {
    Request {
        prompt: vec![7; n_prompt],
        max_tokens,
        stop_ids: vec![STOP],
        sampling: Sampling::greedy(),
        logprobs: None,
        owner: 0,
    }
}

/// Tokens, and the end.
fn drain(mut generation: Generation) -> (Vec<u32>, Event) {
    let mut tokens = Vec::new();
    loop {
        match generation.blocking_next().expect("an end comes before the channel closes") {
            Event::Token { id, .. } => tokens.push(id),
            Event::Queued { .. } | Event::Prefill { .. } => {}
            end => return (tokens, end),
        }
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within ten seconds");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_stop_token_ends_the_sequence_and_is_not_sent() {
    let handle = engine(&[3, 4, STOP]);
    let (tokens, end) = drain(handle.submit(request(20, 40)).expect("accepted"));
    assert_eq!(tokens, [3, 4]);
    let Event::Finished { reason: FinishReason::Stop, timings } = end else { panic!("{end:?}") };
    assert_eq!((timings.n_prompt, timings.n_generated), (20, 2));
}

#[test]
fn the_context_cuts_max_tokens() {
    let handle = engine(&[5]);
    let (tokens, end) = drain(handle.submit(request(60, 1000)).expect("accepted"));
    assert_eq!(tokens.len(), 4);
    assert!(matches!(end, Event::Finished { reason: FinishReason::Length, .. }));
}

#[test]
fn many_sequences_at_once_each_get_their_own_answer() {
    let handle = engine(&[1, 2, 3, 4, 5, STOP]);
    let generations: Vec<_> =
        (1..24).map(|n| handle.submit(request(n, 3 + n % 4)).expect("accepted")).collect();
    for (generation, n) in generations.into_iter().zip(1..) {
        let n: usize = n;
        let want: Vec<u32> = (1..=5).take(3 + n % 4).collect();
        assert_eq!(drain(generation).0, want, "prompt of {n}");
    }
    wait_until("memory comes back", || handle.stats().kv_tokens_used == 0);
    assert_eq!(handle.stats().finished_total, 23);
}

#[test]
fn dropping_a_generation_cancels_that_request_only() {
    let handle = slow(2, Options::default());
    let keep = handle.submit(request(4, 30)).expect("accepted");
    let mut leave = handle.submit(request(4, 30)).expect("accepted");
    while !matches!(leave.blocking_next(), Some(Event::Token { .. })) {}
    drop(leave);
    wait_until("the client's leaving is noticed", || handle.stats().cancelled_total == 1);
    assert_eq!(drain(keep).0.len(), 30);
    wait_until("idle", || handle.stats().running == 0);
}

#[test]
fn a_queued_client_that_leaves_does_not_touch_the_running_one() {
    let handle = slow(2, Options { sequences_max: 1, ..Options::default() });
    let active = handle.submit(request(4, 30)).expect("accepted");
    wait_until("running", || handle.stats().running == 1);
    let queued = handle.submit(request(4, 30)).expect("accepted");
    wait_until("queued", || handle.stats().waiting == 1);
    drop(queued);
    wait_until("its place is free", || handle.stats().waiting == 0);
    assert_eq!(drain(active).0.len(), 30);
}

#[test]
fn the_queue_has_a_limit_and_says_so() {
    let handle = slow(5, Options { sequences_max: 1, waiting_max: 2, ..Options::default() });
    let _active = handle.submit(request(4, 40)).expect("accepted");
    wait_until("running", || handle.stats().running == 1);
    let _second = handle.submit(request(4, 4)).expect("accepted");
    let mut third = handle.submit(request(4, 4)).expect("accepted");
    let full = handle.submit(request(4, 4)).expect_err("the queue is full");
    assert_eq!(full, SubmitError::QueueFull { waiting: 2, limit: 2 });
    assert!(matches!(third.blocking_next(), Some(Event::Queued { ahead: 2 })));
}

#[test]
fn one_owner_with_many_jobs_does_not_block_another() {
    let handle = slow(1, Options { sequences_max: 1, ..Options::default() });
    let hog: Vec<_> = (0..6).map(|_| handle.submit(request(8, 20)).expect("accepted")).collect();
    wait_until("the hog runs", || handle.stats().running == 1);
    let colleague = handle.submit(Request { owner: 1, ..request(8, 4) }).expect("accepted");
    drain(colleague);
    let done = handle.stats().finished_total;
    assert!(done <= 3, "{done} requests finished before the colleague's");
    hog.into_iter().for_each(|generation| drop(drain(generation)));
}

#[test]
fn bad_requests_are_refused_at_the_door() {
    let handle = engine(&[1]);
    let refuse = |r: Request| handle.submit(r).expect_err("refused");
    assert_eq!(refuse(request(0, 1)), SubmitError::PromptEmpty);
    assert_eq!(refuse(request(64, 1)), SubmitError::PromptTooLong { got: 64, limit: 63 });
    let unknown = Request { prompt: vec![50], ..request(1, 1) };
    assert_eq!(refuse(unknown), SubmitError::UnknownToken { id: 50, n_vocab: 50 });
}

#[test]
fn a_failing_step_fails_its_sequences_and_the_engine_lives() {
    let model = Scripted::new(LIMITS, vec![1]).fail_after(3);
    let handle = engine::start(Box::new(model), Options::default());
    let (tokens, end) = drain(handle.submit(request(4, 30)).expect("accepted"));
    assert!(tokens.len() < 30);
    assert!(matches!(end, Event::Failed { .. }), "{end:?}");
    assert_eq!(drain(handle.submit(request(4, 5)).expect("accepted")).0.len(), 5);
}

#[test]
fn what_cannot_be_read_fails_its_own_request_alone() {
    // The answers are 1, 2, 3, 1, ...; whoever is fed 40 fails.
    let model = Scripted::new(LIMITS, vec![1, 2, 3]).unreadable(40).step_time(Duration::from_millis(1));
    let handle = engine::start(Box::new(model), Options::default());
    let good = handle.submit(request(4, 30)).expect("accepted");
    let doomed = Request { prompt: vec![5, 40, 6], ..request(3, 30) };
    let doomed = handle.submit(doomed).expect("accepted");
    let (tokens, end) = drain(doomed);
    assert!(tokens.is_empty());
    let Event::Failed { message } = end else { panic!("{end:?}") };
    assert!(message.contains("could not be read"), "{message}");
    let (tokens, end) = drain(good);
    assert_eq!(tokens, [1, 2, 3].repeat(10));
    assert!(matches!(end, Event::Finished { .. }), "{end:?}");
    let stats = handle.stats();
    assert_eq!((stats.failed_total, stats.finished_total), (1, 1));
}

#[test]
fn prompts_are_read_in_chunks_beside_decoding() {
    let options = Options { prefill_tokens_beside_decode: 4, ..Options::default() };
    let handle = slow(1, options);
    let mut first = handle.submit(request(2, 60)).expect("accepted");
    while !matches!(first.blocking_next(), Some(Event::Token { .. })) {}
    let mut second = handle.submit(request(20, 4)).expect("accepted");
    let mut chunks = Vec::new();
    loop {
        match second.blocking_next() {
            Some(Event::Prefill { done, .. }) => chunks.push(done),
            Some(Event::Token { .. }) => break,
            other => assert!(matches!(other, Some(Event::Queued { .. })), "{other:?}"),
        }
    }
    assert_eq!(chunks, [4, 8, 12, 16, 20]);
}

/// Tokens and timings of an answer that came to its end.
fn answer(handle: &Handle, request: Request) -> (Vec<u32>, engine::Timings) {
    let (tokens, end) = drain(handle.submit(request).expect("accepted"));
    let Event::Finished { timings, .. } = end else { panic!("{end:?}") };
    (tokens, timings)
}

#[test]
fn the_next_turn_computes_only_what_is_new() {
    let handle = engine(&[1, 2, 3, STOP]);
    let (tokens, first) = answer(&handle, request(30, 10));
    assert_eq!((tokens.len(), first.n_cached), (3, 0));
    let mut prompt = vec![7; 30];
    prompt.extend([1, 2, 3, 8, 8]);
    let (tokens, second) = answer(&handle, Request { prompt, ..request(1, 10) });
    assert_eq!((tokens, second.n_cached), (vec![1, 2, 3], 33));
    assert_eq!(handle.stats().prompt_tokens_total, 30 + 2);
}

#[test]
fn nobody_gets_another_owners_prefix() {
    let handle = engine(&[1, STOP]);
    answer(&handle, request(30, 10));
    let (_, other) = answer(&handle, Request { owner: 1, ..request(30, 10) });
    assert_eq!(other.n_cached, 0);
    let (_, same) = answer(&handle, request(30, 10));
    assert_eq!(same.n_cached, 29, "all but the token whose logits are wanted");
}

#[test]
fn kept_prefixes_give_way_to_running_sequences() {
    let handle = engine(&[1, STOP]);
    for owner in 0..12 {
        answer(&handle, Request { owner, ..request(40, 20) });
    }
    let running: Vec<_> = (20..24)
        .map(|owner| handle.submit(Request { owner, ..request(40, 24) }).expect("accepted"))
        .collect();
    for generation in running {
        assert_eq!(drain(generation).0, [1]);
    }
}
