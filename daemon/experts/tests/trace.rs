//! Routing traces as files: what is written is read again, and broken files are refused or read up to where they broke.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;

use experts::trace::{
    Error, FILE_BYTES_MAX, Header, LAYERS_MAX, Layer, NAME_BYTES_MAX, Problem, Recorder, Trace,
};
use proptest::prelude::*;

fn header() -> Header {
    let layers = [3, 4, 60].map(|layer| Layer { layer, record_bytes: 24_800_000 + u64::from(layer) });
    Header {
        model: "DeepSeek-R1".to_owned(),
        fingerprint: "0123456789abcdef".to_owned(),
        n_experts: 256,
        top_k: 8,
        layers: layers.to_vec(),
    }
}

/// A decode step, a prompt's, and one in which nobody wanted anything.
fn trace() -> Trace {
    let mut trace = Trace::new(header()).unwrap();
    for place in 0..3 {
        trace.visit(place, [(0, 1), (7, 1), (128 + place as u32, 1), (255, 1)]).unwrap();
    }
    trace.end_step(1);
    for place in [2, 0, 1, 0] {
        trace.visit(place, (0..256).map(|expert| (expert, 1 + 37 * expert))).unwrap();
    }
    trace.end_step(2048);
    trace.end_step(0);
    trace
}

/// Where the steps end in a file, the header's end first.
fn ends(trace: &Trace) -> Vec<usize> {
    let bytes = trace.to_bytes();
    let mut ends = vec![trace.header().to_bytes().unwrap().len()];
    while *ends.last().unwrap() < bytes.len() {
        let at = *ends.last().unwrap();
        let n = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        ends.push(at + 8 + n as usize);
    }
    ends
}

#[test]
fn a_recorded_trace_is_read_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.routes");
    let want = trace();
    let mut recorder = Recorder::create(&path, want.header()).unwrap();
    for step in want.steps() {
        for visit in step.visits() {
            let wants = visit.experts.iter().zip(visit.tokens).map(|(&e, &t)| (u32::from(e), t));
            recorder.record(want.header().layers[visit.place].layer, &wants.collect::<Vec<_>>());
        }
        recorder.end_step(step.n_tokens).unwrap();
    }
    drop(recorder);
    let got = Trace::open(&path).unwrap();
    assert_eq!(got, want);
    assert_eq!(fs::read(&path).unwrap(), want.to_bytes());
    let tokens: Vec<u32> = got.steps().map(|step| step.n_tokens).collect();
    assert_eq!((tokens, got.n_uses(), got.cut_at()), (vec![1, 2048, 0], 12 + 4 * 256, None));
}

#[test]
fn a_decode_step_of_r1_takes_590_bytes() {
    let layers = (3..61).map(|layer| Layer { layer, record_bytes: 1 }).collect();
    let mut trace = Trace::new(Header { layers, ..header() }).unwrap();
    let empty = trace.to_bytes().len();
    (0..58).for_each(|place| trace.visit(place, (0..8).map(|i| (30 * i + 5, 1))).unwrap());
    trace.end_step(1);
    assert_eq!(trace.to_bytes().len() - empty, 8 + 1 + 58 * 10);
}

#[test]
fn a_file_cut_anywhere_is_read_up_to_its_last_whole_step() {
    let whole = trace();
    let (bytes, ends) = (whole.to_bytes(), ends(&whole));
    for cut in ends[0]..bytes.len() {
        let got = Trace::parse(&bytes[..cut]).unwrap();
        let steps = ends.iter().filter(|&&end| end <= cut).count() - 1;
        assert_eq!(got.n_steps(), steps, "cut at {cut}");
        assert_eq!(got.cut_at(), (ends[steps] != cut).then_some(ends[steps] as u64));
    }
    for cut in 0..ends[0] {
        Trace::parse(&bytes[..cut]).expect_err("no header");
    }
}

#[test]
fn room_that_a_power_cut_left_unwritten_is_a_cut() {
    let whole = trace();
    let (bytes, ends) = (whole.to_bytes(), ends(&whole));
    for written in [ends[1], ends[1] + 6, ends[1] + 60] {
        let mut torn = bytes[..written].to_vec();
        torn.resize(16 << 10, 0);
        let got = Trace::parse(&torn).unwrap();
        assert_eq!((got.n_steps(), got.cut_at()), (1, Some(ends[1] as u64)));
    }
}

#[test]
fn a_flipped_bit_is_an_error_with_its_place() {
    let whole = trace();
    let ends = ends(&whole);
    let mut bytes = whole.to_bytes();
    bytes[ends[0] + 12] ^= 1;
    let Err(Problem::Checksum { what: "a step", at, .. }) = Trace::parse(&bytes) else { panic!("not found") };
    assert_eq!(at, ends[0] as u64);
    let mut bytes = whole.to_bytes();
    bytes[40] ^= 1;
    assert!(matches!(Trace::parse(&bytes), Err(Problem::Checksum { what: "the header", at: 0, .. })));
}

#[test]
fn what_is_no_trace_gets_clear_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "GGUF....").unwrap();
    let text = Trace::open(&path).unwrap_err().to_string();
    assert!(text.starts_with(path.to_str().unwrap()) && text.contains("not a routing trace"), "{text}");
    let mut bytes = trace().to_bytes();
    bytes[8] = 9;
    assert_eq!(Trace::parse(&bytes), Err(Problem::Version { got: 9, known: 1 }));
    let huge = fs::File::create(&path).unwrap();
    huge.set_len(FILE_BYTES_MAX + 1).unwrap();
    assert!(matches!(Trace::open(&path), Err(Error::Long { .. })));
    assert!(matches!(Trace::open(&dir.path().join("none")), Err(Error::Io { .. })));
}

#[test]
fn headers_beyond_the_limits_are_refused() {
    let wrong = [
        Header { n_experts: 1 << 20, ..header() },
        Header { top_k: 257, ..header() },
        Header { model: "x".repeat(NAME_BYTES_MAX as usize + 1), ..header() },
        Header { layers: vec![Layer { layer: 3, record_bytes: 0 }; 2], ..header() },
        Header {
            layers: (0..=LAYERS_MAX).map(|layer| Layer { layer, record_bytes: 0 }).collect(),
            ..header()
        },
    ];
    for header in wrong {
        header.to_bytes().unwrap_err();
        Trace::new(header).unwrap_err();
    }
}

#[test]
fn a_wrong_visit_leaves_the_trace_as_it_was() {
    let mut trace = trace();
    let before = trace.clone();
    trace.visit(3, [(0, 1)]).unwrap_err();
    trace.visit(0, [(1, 1), (256, 1)]).unwrap_err();
    trace.visit(0, [(5, 1), (5, 1)]).unwrap_err();
    trace.visit(0, [(5, 0)]).unwrap_err();
    assert_eq!(trace, before);
}

#[test]
fn a_full_recorder_says_so_once_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.routes");
    let start = header().to_bytes().unwrap().len() as u64;
    let mut recorder = Recorder::create(&path, &header()).unwrap().with_limit(start + 30);
    let mut step = || {
        recorder.record(60, &[(1, 1), (2, 1)]);
        (recorder.end_step(1), recorder.is_recording())
    };
    // Each takes 8 + 1 + 4 bytes.
    assert!(matches!(step(), (Ok(()), true)));
    assert!(matches!(step(), (Ok(()), true)));
    let (Err(Error::Full { steps: 2, bytes_max, .. }), false) = step() else { panic!("not full") };
    assert_eq!(bytes_max, start + 30);
    assert!(matches!(step(), (Ok(()), false)));
    let got = Trace::open(&path).unwrap();
    assert_eq!((got.n_steps(), got.n_uses(), got.cut_at()), (2, 4, None));
}

/// Frames whatever is in it as a step.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = header().to_bytes().unwrap();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend((weights::pack::Hash::of(body).0 as u32).to_le_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn a_step_that_lies_is_an_error() {
    let wrong: [&[u8]; 8] = [
        &[],
        &[1, 3, 2, 0],                               // no such layer
        &[1, 0, 4, 0],                               // one of two experts
        &[1, 0, 2, 0x80, 2],                         // expert 256
        &[1, 0, 4, 0xff, 1, 0],                      // expert 255 and one more
        &[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],       // 2 ^ 31 experts
        &[1, 0, 4, 0xff, 0xff, 0xff, 0xff, 0x0f, 1], // an expert of 2 ^ 32
        &[0xff, 0xff, 0xff, 0xff, 0x1f],             // a number beyond 32 bits
    ];
    for body in wrong {
        let Err(Problem::Step { at, .. }) = Trace::parse(&framed(body)) else { panic!("{body:?}") };
        assert_eq!(at as usize, header().to_bytes().unwrap().len());
    }
    assert_eq!(
        Trace::parse(&framed(&[1, 2, 5, 255, 1, 0, 0, 9])),
        Err(Problem::Step {
            at: header().to_bytes().unwrap().len() as u64,
            problem: Box::new(Problem::Limit { what: "an expert", got: 256, max: 255 }),
        })
    );
}

proptest! {
    #[test]
    fn mutated_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = trace().to_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Trace::parse(&bytes);
        let _ = Trace::parse(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_step_with_a_right_checksum_is_refused_or_written_again_alike(
        body in prop::collection::vec(prop_oneof![0_u8..6, any::<u8>()], 0..64),
    ) {
        if let Ok(trace) = Trace::parse(&framed(&body)) {
            prop_assert_eq!(Trace::parse(&trace.to_bytes()).unwrap(), trace);
        }
    }
}
