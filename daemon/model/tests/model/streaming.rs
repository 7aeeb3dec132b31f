//! Where experts come from changes no answer: the same tokens and logits with any share of them in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use experts::disk::sim::{Fault, Odds, SimControl, SimDisk, SimFile};
use experts::disk::{Choice, Disk, Drive, Method};
use experts::{Copies, Experts, Loan, Origin, Policy, Streaming};
use fixtures::Expected;
use gpu::DeviceOptions;
use model::{CardOptions, Chunk, Forward, LogitsOf, Model, Options, Precision, PromptExperts};
use weights::{Compress, ExpertKey, ImportOptions, Weights};

use crate::card::device;
use crate::support::{bind_with, greedy, logits_of};

/// Of a model's experts, what memory there is for.
const SHARES: [f64; 4] = [0.05, 0.25, 0.5, 1.0];

fn options(precision: Precision) -> Options {
    Options { precision, kv_tokens: 4096, context: 512, threads: Some(2), ..Options::default() }
}

/// All models with routed experts.
fn fixtures() -> [(fixtures::Model, &'static str); 5] {
    [
        (fixtures::folder("tiny-deepseek-v3"), "tiny-deepseek-v3/expected.safetensors"),
        (fixtures::folder("tiny-deepseek-v3-fp8"), "tiny-deepseek-v3-fp8/expected.safetensors"),
        (fixtures::folder("tiny-deepseek-v2"), "tiny-deepseek-v2/expected.safetensors"),
        (fixtures::folder("tiny-deepseek-v2-lite"), "tiny-deepseek-v2-lite/expected.safetensors"),
        (
            fixtures::gguf("tiny-deepseek-v3-k256.q4_k_m.gguf"),
            "gguf/tiny-deepseek-v3-k256.q4_k_m.expected.safetensors",
        ),
    ]
}

/// A pack made from a model.
fn packed(fixture: &fixtures::Model, folder: &Path) -> PathBuf {
    packed_with(fixture, folder, Compress::Never)
}

fn packed_with(fixture: &fixtures::Model, folder: &Path, compress: Compress) -> PathBuf {
    let name = fixture.path.file_name().unwrap().to_string_lossy().into_owned();
    let pack = folder.join(format!("{name}-{compress:?}.wels"));
    let options = ImportOptions { compress, ..ImportOptions::default() };
    weights::import(&fixture.path, &pack, &options, &mut |_| {}).unwrap();
    pack
}

/// Bytes of all records, in whole pages.
fn record_bytes(weights: &Weights) -> u64 {
    let moe = weights.hyper().moe.unwrap();
    let layers = moe.n_dense_layers as u32..weights.hyper().n_layers as u32;
    let keys =
        layers.flat_map(|layer| (0..moe.n_experts as u32).map(move |expert| ExpertKey { layer, expert }));
    keys.map(|key| weights.record(key).unwrap()).map(|record| record.bytes as u64).sum()
}

/// The model with room for a share of its experts (at least two of each size), read by `disk`.
fn streamed(path: &Path, options: &Options, share: f64, policy: Policy, disk: Box<dyn Disk>) -> Model {
    let weights = Arc::new(weights::open_resident(path, &mut |_| {}).unwrap());
    let budget = (record_bytes(&weights) as f64 * share) as u64;
    let bind = |budget, disk| {
        let streaming = Streaming { policy, ..streaming(disk, budget, copies(&weights, &[])) };
        Model::with_experts(Arc::clone(&weights), options, Origin::Drive(streaming))
    };
    let least = match bind(0, drive(&weights)) {
        Err(model::Error::Experts(experts::Error::Budget { wanted, .. })) => wanted,
        other => panic!("a budget of nothing: {other:?}", other = other.map(drop)),
    };
    bind(budget.max(least), disk).unwrap()
}

/// Streaming without a loan, pins or a profile; the one used longest ago gives way.
fn streaming(disk: Box<dyn Disk>, budget: u64, copies: Copies) -> Streaming {
    let (loan, policy) = (Loan::default(), Policy::Lru);
    Streaming { disk, budget, loan, policy, pinned_share: 0.0, copies, profile: None }
}

/// The model's files and copies of them in other folders, on drives of the same speed.
fn copies(weights: &Weights, mirrors: &[&Path]) -> Copies {
    let own: Vec<PathBuf> = weights.files().map(Path::to_path_buf).collect();
    let mirrored = |folder: &&Path| own.iter().map(|path| folder.join(path.file_name().unwrap())).collect();
    let files: Vec<Vec<PathBuf>> = std::iter::once(own.clone()).chain(mirrors.iter().map(mirrored)).collect();
    Copies { bytes_per_s: vec![1e9; files.len()], files }
}

fn drive(weights: &Weights) -> Box<dyn Disk> {
    let paths: Vec<&Path> = weights.files().collect();
    Drive::open(&paths, Choice { method: Method::Pread, depth: 2 }).unwrap()
}

fn simulated(weights: &Weights, seed: u64) -> (Box<dyn Disk>, SimControl) {
    let files = weights.files().map(|path| SimFile::Memory(std::fs::read(path).unwrap())).collect();
    let disk = SimDisk::new(seed, files);
    let control = disk.control();
    (Box::new(disk), control)
}

#[test]
fn the_same_tokens_come_out_with_any_share_of_the_experts_in_memory() {
    let packs = tempfile::tempdir().unwrap();
    for (fixture, expected) in &fixtures() {
        let ids = Expected::read(expected).u32("p33.input_ids");
        // As it was published, and as packs with raw and with coded records.
        let coded = packed_with(fixture, packs.path(), Compress::Always);
        let paths = [fixture.path.clone(), packed(fixture, packs.path()), coded];
        let cases = paths.iter().flat_map(|path| [Precision::F32, Precision::Fast].map(|p| (path, p)));
        for (path, precision) in cases {
            let options = options(precision);
            let answer = |mut model: Model| {
                let (seq, rows) = logits_of(&mut model, &ids, 16, 128);
                let last = rows[rows.len() - model.limits().n_vocab..].to_vec();
                let tokens = greedy(&mut model, seq, last.clone(), 32);
                (last, tokens)
            };
            let in_memory = answer(bind_with(path, options.clone()));
            for share in SHARES {
                let weights = weights::open(path).unwrap();
                let model = streamed(path, &options, share, Policy::Lru, drive(&weights));
                let same = answer(model) == in_memory;
                assert!(same, "{}: {share} of the experts, {precision:?}", path.display());
            }
        }
    }
}

#[test]
fn memory_that_long_steps_take_from_the_cache_changes_nothing() {
    let packs = tempfile::tempdir().unwrap();
    let pack = packed(&fixtures::folder("tiny-deepseek-v3"), packs.path());
    let ids = Expected::read("tiny-deepseek-v3/expected.safetensors").u32("p300.input_ids");
    let options = options(Precision::Fast);
    let weights = Arc::new(weights::open_resident(&pack, &mut |_| {}).unwrap());
    let budget = record_bytes(&weights) / 2;
    let loan = Loan { bytes: budget / 2, step_tokens: 16 };
    let streaming = Streaming { loan, ..streaming(drive(&weights), budget, copies(&weights, &[])) };
    let mut lending = Model::with_experts(weights, &options, Origin::Drive(streaming)).unwrap();
    let mut in_memory = bind_with(&pack, options);
    let whole = lending.streaming().unwrap().slot_bytes;
    // Long and short steps in turn: the memory goes and comes.
    for (step, during) in [(100, whole / 2), (8, whole), (50, whole / 2), (1, whole)] {
        let (_, got) = logits_of(&mut lending, &ids[..100], step, 128);
        let (_, wanted) = logits_of(&mut in_memory, &ids[..100], step, 128);
        assert!(got == wanted, "steps of {step} tokens");
        let there = lending.streaming().unwrap().slot_bytes;
        assert!(there.abs_diff(during) < whole / 8, "{there} bytes of {whole}, steps of {step}");
    }
}

#[test]
fn the_order_in_which_experts_come_changes_nothing() {
    let fixture = fixtures::folder("tiny-deepseek-v3");
    let ids = Expected::read("tiny-deepseek-v3/expected.safetensors").u32("p300.input_ids");
    let options = options(Precision::Fast);
    let (_, in_memory) = logits_of(&mut bind_with(&fixture.path, options.clone()), &ids, 50, 300);
    let weights = weights::open(&fixture.path).unwrap();
    for seed in 0..6 {
        let policy = if seed % 2 == 0 { Policy::Lru } else { Policy::Lfru { half_life: 4.0 } };
        let (disk, _) = simulated(&weights, seed);
        let mut model = streamed(&fixture.path, &options, 0.3, policy, disk);
        let (_, rows) = logits_of(&mut model, &ids, 50, 300);
        assert!(rows == in_memory, "seed {seed}");
    }
}

#[test]
fn a_long_prompt_reads_every_expert_it_needs_once() {
    let fixture = fixtures::folder("tiny-deepseek-v2-lite");
    let ids = Expected::read("tiny-deepseek-v2-lite/expected.safetensors").u32("p300.input_ids");
    let options = options(Precision::F32);
    let mut in_memory = bind_with(&fixture.path, options.clone());
    in_memory.start_trace();
    let (_, in_memory_rows) = logits_of(&mut in_memory, &ids, ids.len(), 300);
    let needed: usize = in_memory.take_trace().choices.iter().map(|layer| different(layer)).sum();
    for share in SHARES {
        let (disk, control) = simulated(&weights::open(&fixture.path).unwrap(), 1);
        let mut model = streamed(&fixture.path, &options, share, Policy::Lru, disk);
        let (_, rows) = logits_of(&mut model, &ids, ids.len(), 300);
        assert!(rows == in_memory_rows, "{share}");
        let stats = model.streaming().unwrap();
        assert_eq!((stats.hits + stats.misses) as usize, needed, "{share}");
        let mut read: Vec<u64> = control.reads().iter().map(|read| read.tag).collect();
        read.sort_unstable();
        assert_eq!(read.len(), needed, "{share}: as many reads as experts needed");
        assert!(read.windows(2).all(|pair| pair[0] != pair[1]), "{share}: none twice");
    }
}

#[test]
fn faults_that_pass_are_read_over() {
    let packs = tempfile::tempdir().unwrap();
    let pack = packed(&fixtures::folder("tiny-deepseek-v3"), packs.path());
    let ids = Expected::read("tiny-deepseek-v3/expected.safetensors").u32("p33.input_ids");
    let options = options(Precision::Fast);
    let (_, in_memory) = logits_of(&mut bind_with(&pack, options.clone()), &ids, 4, 64);
    for seed in 0..4 {
        let odds = Odds { delay: 0.2, split: 0.2, short: 0.05, eio: 0.05, flip: 0.05 };
        let files = weights::open(&pack).unwrap();
        let files = files.files().map(|path| SimFile::Memory(std::fs::read(path).unwrap())).collect();
        let disk = Box::new(SimDisk::new(seed, files).with_odds(odds));
        let mut model = streamed(&pack, &options, 0.2, Policy::Lru, disk);
        let (_, rows) = logits_of(&mut model, &ids, 4, 64);
        let stats = model.streaming().unwrap();
        assert!(rows == in_memory, "seed {seed}");
        assert!(
            stats.retries > 0 && stats.checksum_failures > 0 && stats.failures == 0,
            "seed {seed}: {stats:?}"
        );
    }
}

fn different(choices: &[kernels::Choice]) -> usize {
    choices.iter().map(|choice| choice.expert).collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn an_expert_that_cannot_be_read_fails_those_who_need_it_alone() {
    let packs = tempfile::tempdir().unwrap();
    let pack = packed(&fixtures::folder("tiny-deepseek-v3"), packs.path());
    let ids = Expected::read("tiny-deepseek-v3/expected.safetensors").u32("p33.input_ids");
    let options = options(Precision::Fast);
    let mut whole = bind_with(&pack, options.clone());
    let alone = |model: &mut Model, id: u32| {
        let seq = model.open(8).unwrap();
        let mut logits = Vec::new();
        let failures = model.step(&[Chunk { seq, tokens: &[id], logits: LogitsOf::Last }], &mut logits);
        model.close(seq);
        (failures.unwrap().len(), logits)
    };
    // Of the first layer with a mixture, an expert that some tokens go to and others not.
    let weights = weights::open(&pack).unwrap();
    let layer = weights.hyper().moe.unwrap().n_dense_layers as u32;
    let chosen: Vec<Vec<u32>> = ids.iter().map(|&id| chosen(&mut whole, id)).collect();
    let broken = *chosen[0].first().unwrap();
    assert!(chosen.iter().any(|experts| !experts.contains(&broken)));
    let (disk, control) = simulated(&weights, 3);
    let extent = weights.record(ExpertKey { layer, expert: broken }).unwrap().extents[0];
    control.inject(extent.file, extent.offset, Fault::Eio, u32::MAX);
    let mut model = streamed(&pack, &options, 0.25, Policy::Lru, disk);
    for (&id, chosen) in ids.iter().zip(&chosen) {
        let (n_failed, logits) = alone(&mut model, id);
        assert_eq!(n_failed, usize::from(chosen.contains(&broken)), "token {id}");
        if n_failed == 0 {
            assert!(logits == alone(&mut whole, id).1, "token {id}");
        }
    }
    together(&mut model, &ids, &chosen, broken);
    control.heal();
    assert_eq!(alone(&mut model, ids[0]), alone(&mut whole, ids[0]), "the drive has recovered");
}

#[test]
fn experts_go_from_the_drive_to_a_card_for_a_prompt() {
    let packs = tempfile::tempdir().unwrap();
    let pack = packed(&fixtures::folder("tiny-deepseek-v3"), packs.path());
    let ids = Expected::read("tiny-deepseek-v3/expected.safetensors").u32("p33.input_ids");
    let options = options(Precision::F32);
    let mut whole = bind_with(&pack, options.clone());
    let (_, want) = logits_of(&mut whole, &ids, ids.len(), 64);
    let weights = weights::open(&pack).unwrap();
    let (disk, _) = simulated(&weights, 5);
    let mut model = streamed(&pack, &options, 0.25, Policy::Lru, disk);
    let card = CardOptions { prompt_experts: PromptExperts::From(2), ..CardOptions::default() };
    model.move_to_card(device(DeviceOptions::default()), card.clone(), &mut |_, _| {}).unwrap();
    assert!(model.brings_from().is_some_and(|from| from <= ids.len()));
    let (_, got) = logits_of(&mut model, &ids, ids.len(), 64);
    let difference = fixtures::max_difference(&got, &want);
    assert!(difference <= 2e-3, "{difference}");
    // One that can't be read fails those who need it, and no other.
    let chosen: Vec<Vec<u32>> = ids.iter().map(|&id| chosen(&mut whole, id)).collect();
    let broken = *chosen[0].first().unwrap();
    let layer = weights.hyper().moe.unwrap().n_dense_layers as u32;
    let extent = weights.record(ExpertKey { layer, expert: broken }).unwrap().extents[0];
    let (disk, control) = simulated(&weights, 5);
    control.inject(extent.file, extent.offset, Fault::Eio, u32::MAX);
    let mut cold = streamed(&pack, &options, 0.25, Policy::Lru, disk);
    cold.move_to_card(device(DeviceOptions::default()), card, &mut |_, _| {}).unwrap();
    together(&mut cold, &ids, &chosen, broken);
}

/// The experts that a token alone goes to in the first layer with a mixture.
fn chosen(model: &mut Model, id: u32) -> Vec<u32> {
    let seq = model.open(8).unwrap();
    model.start_trace();
    model.step(&[Chunk { seq, tokens: &[id], logits: LogitsOf::Last }], &mut Vec::new()).unwrap();
    model.close(seq);
    model.take_trace().choices[0].iter().map(|choice| choice.expert).collect()
}

/// All tokens as sequences of one step: those fail that need the broken expert, and no other.
fn together(model: &mut Model, ids: &[u32], chosen: &[Vec<u32>], broken: u32) {
    let seqs: Vec<_> = ids.iter().map(|_| model.open(8).unwrap()).collect();
    let chunks: Vec<_> = seqs
        .iter()
        .zip(ids)
        .map(|(&seq, id)| Chunk { seq, tokens: std::slice::from_ref(id), logits: LogitsOf::Last })
        .collect();
    let failures = model.step(&chunks, &mut Vec::new()).unwrap();
    let failed: Vec<_> = failures.iter().map(|failure| failure.seq).collect();
    let doomed = seqs.iter().zip(chosen).filter(|(_, chosen)| chosen.contains(&broken));
    assert_eq!(failed, doomed.map(|(&seq, _)| seq).collect::<Vec<_>>());
    assert!(failures[0].error.to_string().contains("could not be read"), "{}", failures[0].error);
    seqs.into_iter().for_each(|seq| model.close(seq));
}

#[test]
fn a_lossy_step_leaves_out_what_is_missing_and_says_how_much() {
    let packs = tempfile::tempdir().unwrap();
    let pack = packed(&fixtures::folder("tiny-deepseek-v3"), packs.path());
    let ids = Expected::read("tiny-deepseek-v3/expected.safetensors").u32("p33.input_ids");
    let share = 0.2;
    let exact = options(Precision::Fast);
    let lossy = Options { skip_share: Some(share), ..exact.clone() };
    let run = |options: &Options, part: f64| {
        let weights = weights::open(&pack).unwrap();
        let mut model = streamed(&pack, options, part, Policy::Lru, drive(&weights));
        // A token a step: a step of many wants all experts, and computes exactly.
        let (seq, rows) = logits_of(&mut model, &ids, 1, 64);
        let (lost, skipped) = (model.lost(seq), model.streaming().unwrap().skipped);
        (rows, lost, skipped)
    };
    let (exact_rows, lost, skipped) = run(&exact, 0.25);
    assert_eq!((lost, skipped), (None, 0));
    let (rows, lost, skipped) = run(&lossy, 0.25);
    assert!(skipped > 0 && rows != exact_rows);
    assert!(lost.is_some_and(|lost| lost > 0.0 && lost <= share), "{lost:?}");
    assert!(rows.iter().all(|logit| logit.is_finite()));
}

#[test]
fn a_file_cut_while_it_is_served_fails_requests_and_nothing_else() {
    let packs = tempfile::tempdir().unwrap();
    let pack = packed(&fixtures::folder("tiny-deepseek-v3"), packs.path());
    let ids = Expected::read("tiny-deepseek-v3/expected.safetensors").u32("p33.input_ids");
    let options = options(Precision::Fast);
    let weights = weights::open(&pack).unwrap();
    let mut model = streamed(&pack, &options, 0.05, Policy::Lru, drive(&weights));
    let (_, whole) = logits_of(&mut model, &ids, 4, 64);
    let path = pack.join("experts.bin");
    let bytes = std::fs::read(&path).unwrap();
    // Cut to nothing, dense tensors too: those are in memory.
    for name in ["experts.bin", "dense.bin"] {
        std::fs::OpenOptions::new().write(true).open(pack.join(name)).unwrap().set_len(0).unwrap();
    }
    let seq = model.open(64).unwrap();
    let chunk = Chunk { seq, tokens: &ids, logits: LogitsOf::All };
    let failures = model.step(&[chunk], &mut Vec::new()).unwrap();
    assert_eq!(failures.len(), 1);
    let words = failures[0].error.to_string();
    assert!(words.contains("experts.bin") || words.contains("bytes came"), "{words}");
    model.close(seq);
    std::fs::write(&path, bytes).unwrap();
    let (_, again) = logits_of(&mut model, &ids, 4, 64);
    assert!(again == whole, "the file is whole again");
}

#[test]
fn a_mirror_gives_what_the_drive_cannot_and_repairs_it() {
    let packs = tempfile::tempdir().unwrap();
    let pack = packed(&fixtures::folder("tiny-deepseek-v3"), packs.path());
    let mirror = packs.path().join("mirror");
    std::fs::create_dir(&mirror).unwrap();
    for name in ["dense.bin", "experts.bin"] {
        std::fs::copy(pack.join(name), mirror.join(name)).unwrap();
    }
    let ids = Expected::read("tiny-deepseek-v3/expected.safetensors").u32("p33.input_ids");
    let options = options(Precision::Fast);
    let (_, whole) = logits_of(&mut bind_with(&pack, options.clone()), &ids, 4, 64);
    // Every record of the pack has changed.
    let path = pack.join("experts.bin");
    let good = std::fs::read(&path).unwrap();
    let bad: Vec<u8> =
        good.iter().enumerate().map(|(i, byte)| if i % 1000 == 7 { byte ^ 4 } else { *byte }).collect();
    std::fs::write(&path, bad).unwrap();
    let weights = Arc::new(weights::open_resident(&pack, &mut |_| {}).unwrap());
    let copies = copies(&weights, &[&mirror]);
    let disk = Drive::open(&copies.files.concat(), Choice { method: Method::Pread, depth: 2 }).unwrap();
    let budget = record_bytes(&weights) / 4;
    let streaming = streaming(disk, budget, copies);
    let mut model = Model::with_experts(weights, &options, Origin::Drive(streaming)).unwrap();
    let (_, rows) = logits_of(&mut model, &ids, 4, 64);
    assert!(rows == whole);
    let stats = model.streaming().unwrap();
    assert!(
        stats.repairs > 0 && stats.repairs == stats.checksum_failures && stats.failures == 0,
        "{stats:?}"
    );
    // What was used is as it was written again, and is read from both.
    let before = model.streaming().unwrap().checksum_failures;
    let (_, again) = logits_of(&mut model, &ids, 4, 64);
    assert!(again == whole);
    let repaired = std::fs::read(&path).unwrap();
    let n_bad = repaired.iter().zip(&good).filter(|(a, b)| a != b).count();
    assert!(n_bad < good.len() / 1000 / 2, "{n_bad}");
    assert!(model.streaming().unwrap().checksum_failures - before < before);
}

#[test]
fn what_a_layer_gave_up_does_not_reach_the_next() {
    let packs = tempfile::tempdir().unwrap();
    let pack = packed(&fixtures::folder("tiny-deepseek-v3"), packs.path());
    let weights = Arc::new(weights::open_resident(&pack, &mut |_| {}).unwrap());
    let moe = weights.hyper().moe.unwrap();
    let layers = moe.n_dense_layers as u32..weights.hyper().n_layers as u32;
    let first = layers.start;
    let streaming = streaming(drive(&weights), record_bytes(&weights) / 2, copies(&weights, &[]));
    let mut experts = Experts::bind(&weights, layers, moe.n_experts, Origin::Drive(streaming)).unwrap();
    // As a panic between two groups of experts leaves it: some given out, some under way.
    experts.begin_step(1, moe.top_k);
    let mut wanted = experts.want(first, &[(0, 1), (1, 1), (2, 1), (3, 1)]);
    assert!(wanted.ready().is_some());
    drop(wanted);
    experts.begin_step(1, moe.top_k);
    let mut wanted = experts.want(first + 1, &[(1, 1), (2, 1)]);
    let mut given = Vec::new();
    while let Some(ready) = wanted.ready() {
        given.extend(ready.iter().map(|expert| expert.key));
    }
    given.sort_unstable();
    assert_eq!(given, [1, 2].map(|expert| ExpertKey { layer: first + 1, expert }));
    assert!(wanted.into_failed().is_empty());
}
