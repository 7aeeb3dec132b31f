use std::io::BufReader;

use proptest::prelude::*;

use super::stream::CHUNK_BYTES;
use super::*;

const PASSPHRASE: &str = "鲇鱼 correct horse";
/// Costs nothing.
const LITTLE: u8 = 1;

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut writer = encrypt(Vec::new(), PASSPHRASE, LITTLE).unwrap();
    // In uneven pieces.
    bytes.chunks(10_007).for_each(|piece| writer.write(piece).unwrap());
    writer.finish().unwrap()
}

fn opened(sealed: &[u8], passphrase: &str, len: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; len];
    let mut reader = decrypt(BufReader::new(sealed), passphrase)?;
    reader.read_exact(&mut bytes)?;
    reader.end().map(|()| bytes)
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|idx| (idx * 7 + idx / 251) as u8).collect()
}

#[test]
fn what_was_sealed_is_opened_at_any_size() {
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 200_000] {
        let bytes = text(len);
        assert_eq!(opened(&sealed(&bytes), PASSPHRASE, len).unwrap(), bytes, "{len}");
    }
}

#[test]
fn a_wrong_passphrase_opens_nothing() {
    for wrong in ["", "鲇鱼 correct horsE", &"x".repeat(5000)] {
        assert!(matches!(opened(&sealed(b"secret"), wrong, 6), Err(Error::WrongPassphrase)));
    }
}

/// Made by version 0.12.1 of the `age` crate at 2^10 steps: 70,000 bytes, so two chunks.
#[test]
fn another_programs_file_is_opened() {
    let file = include_bytes!("../../tests/fixtures/by-age-0.12.1.age");
    assert_eq!(opened(file, PASSPHRASE, 70_000).unwrap(), text(70_000));
}

#[test]
fn every_cut_is_noticed() {
    let len = CHUNK_BYTES + 100;
    let whole = sealed(&text(len));
    let header = whole.len() - len - 2 * TAG_BYTES - 16;
    let places = (0..header + 40).chain((header + 40..whole.len()).step_by(997)).chain([
        header + 16 + CHUNK_BYTES + TAG_BYTES - 1,
        header + 16 + CHUNK_BYTES + TAG_BYTES,
        header + 16 + CHUNK_BYTES + TAG_BYTES + 1,
        whole.len() - 1,
    ]);
    for at in places {
        let error = opened(&whole[..at], PASSPHRASE, len).unwrap_err();
        let right =
            matches!(error, Error::Truncated { .. }) || at <= MAGIC.len() && error.code() == "no_backup";
        assert!(right, "{at}: {error}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(opened(&longer, PASSPHRASE, len).is_err());
}

#[test]
fn every_changed_byte_is_noticed() {
    let len = 50;
    let whole = sealed(&text(len));
    for at in 0..whole.len() {
        for bit in [1, 0x20] {
            let mut changed = whole.clone();
            changed[at] ^= bit;
            let error = opened(&changed, PASSPHRASE, len).expect_err("a changed byte");
            let codes = ["damaged", "truncated", "no_backup", "wrong_passphrase", "too_much_work"];
            assert!(codes.contains(&error.code()), "{at}: {error}");
        }
    }
}

#[test]
fn chunks_have_their_places() {
    let len = 3 * CHUNK_BYTES + 5;
    let whole = sealed(&text(len));
    let chunk = CHUNK_BYTES + TAG_BYTES;
    let start = whole.len() - 3 * chunk - 5 - TAG_BYTES;
    let (head, body) = whole.split_at(start);
    let pieces: Vec<&[u8]> = body.chunks(chunk).collect();
    for order in [vec![1, 0, 2, 3], vec![0, 2, 3], vec![0, 1, 1, 2, 3], vec![0, 1, 3], vec![0, 1, 2, 3, 3]] {
        let file = [head, &order.iter().map(|&idx| pieces[idx]).collect::<Vec<_>>().concat()].concat();
        assert!(opened(&file, PASSPHRASE, len).is_err(), "{order:?}");
    }
}

#[test]
fn a_file_that_asks_for_much_is_refused_before_any_work() {
    let whole = sealed(b"secret");
    let at = whole.windows(3).position(|bytes| bytes == b" 1\n").unwrap();
    for work in ["19", "30", "255"] {
        let file = [&whole[..=at], work.as_bytes(), &whole[at + 2..]].concat();
        let refused = opened(&file, PASSPHRASE, 6);
        assert!(matches!(refused, Err(Error::TooMuchWork { max: WORK_MAX, .. })), "{work}");
    }
    for work in ["256", "01", "+1", "-1", "1 1", ""] {
        let file = [&whole[..=at], work.as_bytes(), &whole[at + 2..]].concat();
        assert!(matches!(opened(&file, PASSPHRASE, 6), Err(Error::Damaged { at: 0 })), "{work}");
    }
}

#[test]
fn other_files_are_told_apart() {
    let for_a_key = "age-encryption.org/v1\n-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\n";
    let armoured = "-----BEGIN AGE ENCRYPTED FILE-----\n";
    for text in ["", "PK\x03\x04", "SQLite format 3\0", for_a_key, armoured, &"x".repeat(100_000)] {
        let error = opened(text.as_bytes(), PASSPHRASE, 1).unwrap_err();
        assert_eq!(error.code(), "no_backup", "{text:.20}");
    }
}

proptest! {
    #[test]
    fn anything_is_refused_in_words(tail in proptest::collection::vec(any::<u8>(), 0..400), lines in "[ -~\n]{0,300}") {
        for start in ["", "age-encryption.org/v1\n", "age-encryption.org/v1\n-> scrypt "] {
            for tail in [&tail[..], lines.as_bytes()] {
                prop_assert!(opened(&[start.as_bytes(), tail].concat(), PASSPHRASE, 1).is_err());
            }
        }
    }
}
