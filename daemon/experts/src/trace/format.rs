//! Bytes of a trace, out and in.

use weights::pack::Hash;

use super::{EXPERTS_MAX, Header, LAYERS_MAX, Layer, NAME_BYTES_MAX, Problem, STEP_BYTES_MAX, Trace};

const MAGIC: &[u8; 8] = b"WELSROUT";
const VERSION: u32 = 1;
/// Of a step's frame, before its body.
const FRAME_BYTES: usize = 8;

/// The low half of XXH3-64.
fn check_of(bytes: &[u8]) -> u32 {
    Hash::of(bytes).0 as u32
}

/// # Errors
/// `got` is not below `n`.
pub(super) fn check_below(what: &'static str, got: u64, n: u64) -> Result<(), Problem> {
    if got < n { Ok(()) } else { Err(Problem::Limit { what, got, max: n.saturating_sub(1) }) }
}

/// Whether a file can hold this header.
pub(super) fn check_header(header: &Header) -> Result<(), Problem> {
    let below = |what, got: usize, max: u32| check_below(what, got as u64, u64::from(max) + 1);
    below("the number of experts", header.n_experts as usize, EXPERTS_MAX)?;
    below("the number of layers", header.layers.len(), LAYERS_MAX)?;
    below("the number of bytes of the model's name", header.model.len(), NAME_BYTES_MAX)?;
    below("the number of bytes of the fingerprint", header.fingerprint.len(), NAME_BYTES_MAX)?;
    below("the number of experts of a token", header.top_k as usize, header.n_experts)?;
    let ascend =
        header.layers.array_windows().find(|[a, b]| a.layer >= b.layer).map(|[a, b]| (b.layer, a.layer));
    ascend.map_or(Ok(()), |(layer, before)| Err(Problem::Layers { layer, before }))
}

/// # Panics
/// The header was not checked.
pub(super) fn put_header(header: &Header) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let counts = [header.layers.len(), header.model.len(), header.fingerprint.len()]
        .map(|n| u32::try_from(n).expect("checked: far below"));
    for number in [VERSION, header.n_experts, header.top_k].into_iter().chain(counts) {
        out.extend(number.to_le_bytes());
    }
    for layer in &header.layers {
        out.extend(layer.layer.to_le_bytes());
        out.extend(layer.record_bytes.to_le_bytes());
    }
    out.extend(header.model.as_bytes());
    out.extend(header.fingerprint.as_bytes());
    let check = check_of(&out);
    out.extend(check.to_le_bytes());
    out
}

/// A step around its visits.
pub(super) fn put_step(out: &mut Vec<u8>, n_tokens: u32, visits: &[u8]) {
    let start = out.len();
    out.extend([0; FRAME_BYTES]);
    put(out, n_tokens);
    out.extend(visits);
    let body = &out[start + FRAME_BYTES..];
    let frame = [body.len() as u32, check_of(body)].map(u32::to_le_bytes);
    out[start..start + FRAME_BYTES].copy_from_slice(frame.as_flattened());
}

/// What a layer wants: experts, ascending, and their numbers of tokens, none of them 0.
pub(super) fn put_visit(
    out: &mut Vec<u8>,
    place: usize,
    wants: impl ExactSizeIterator<Item = (u32, u32)> + Clone,
) {
    let has_tokens = wants.clone().any(|(_, tokens)| tokens != 1);
    put(out, place as u32);
    put(out, 2 * wants.len() as u32 + u32::from(has_tokens));
    let mut next = 0;
    for (expert, _) in wants.clone() {
        put(out, expert - next);
        next = expert + 1;
    }
    if has_tokens {
        wants.for_each(|(_, tokens)| put(out, tokens - 1));
    }
}

/// LEB128.
fn put(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn parse(bytes: &[u8]) -> Result<Trace, Problem> {
    let mut cursor = Cursor { bytes, at: 0, base: 0 };
    let mut trace = Trace::new(header(&mut cursor)?)?;
    while cursor.at < bytes.len() {
        let at = cursor.at as u64;
        let Some(body) = step_body(&mut cursor)? else {
            trace.cut_at = Some(at);
            break;
        };
        let base = at + FRAME_BYTES as u64;
        let inside = |problem| Problem::Step { at, problem: Box::new(problem) };
        step(&mut trace, &mut Cursor { bytes: body, at: 0, base }).map_err(inside)?;
    }
    Ok(trace)
}

fn header(cursor: &mut Cursor<'_>) -> Result<Header, Problem> {
    let magic = &cursor.bytes[..MAGIC.len().min(cursor.bytes.len())];
    if magic != MAGIC {
        return Err(Problem::Magic { magic: magic.to_vec() });
    }
    cursor.at = MAGIC.len();
    let version = cursor.u32("the version")?;
    if version != VERSION {
        return Err(Problem::Version { got: version, known: VERSION });
    }
    let n_experts = cursor.u32("the number of experts")?;
    let top_k = cursor.u32("the number of experts of a token")?;
    let n_layers = cursor.count("the number of layers", LAYERS_MAX)?;
    let n_model = cursor.count("the number of bytes of the model's name", NAME_BYTES_MAX)?;
    let n_fingerprint = cursor.count("the number of bytes of the fingerprint", NAME_BYTES_MAX)?;
    let mut layers = Vec::new();
    for _ in 0..n_layers {
        layers.push(Layer { layer: cursor.u32("a layer")?, record_bytes: cursor.u64("a record's size")? });
    }
    let model = cursor.text(n_model, "the model's name")?;
    let fingerprint = cursor.text(n_fingerprint, "the fingerprint")?;
    let got = check_of(&cursor.bytes[..cursor.at]);
    let want = cursor.u32("the header's checksum")?;
    if got != want {
        return Err(Problem::Checksum { what: "the header", at: 0, got, want });
    }
    Ok(Header { model, fingerprint, n_experts, top_k, layers })
}

/// The next step's body; `None` where the file was cut.
///
/// Cut is also what is followed by nothing but zeros: a power cut leaves room in the file that was not written.
fn step_body<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, Problem> {
    let at = cursor.at as u64;
    let what = "a step";
    let (Ok(n), Ok(want)) = (cursor.u32(what), cursor.u32(what)) else { return Ok(None) };
    check_below("the number of bytes of a step", u64::from(n), STEP_BYTES_MAX as u64 + 1)?;
    let Ok(body) = cursor.take(n as usize, what) else { return Ok(None) };
    let got = check_of(body);
    if got == want {
        return Ok(Some(body));
    }
    let is_cut = cursor.bytes[cursor.at..].iter().all(|&byte| byte == 0);
    if is_cut { Ok(None) } else { Err(Problem::Checksum { what, at, got, want }) }
}

fn step(trace: &mut Trace, cursor: &mut Cursor<'_>) -> Result<(), Problem> {
    let n_tokens = cursor.number("the number of tokens")?;
    let mut wants = Vec::new();
    while cursor.at < cursor.bytes.len() {
        let place = cursor.number("the place of a layer")?;
        visit(cursor, &mut wants, trace.header().n_experts)?;
        trace.visit(place as usize, wants.iter().copied())?;
    }
    trace.end_step(n_tokens);
    Ok(())
}

fn visit(cursor: &mut Cursor<'_>, wants: &mut Vec<(u32, u32)>, n_experts: u32) -> Result<(), Problem> {
    let n = cursor.number("the number of experts of a visit")?;
    let (n, has_tokens) = (n / 2, n % 2 == 1);
    check_below("the number of experts of a visit", u64::from(n), u64::from(n_experts) + 1)?;
    wants.clear();
    let mut next = 0;
    for _ in 0..n {
        let expert = cursor.number("an expert")?.saturating_add(next);
        next = expert.saturating_add(1);
        wants.push((expert, 1));
    }
    if has_tokens {
        for (_, tokens) in wants {
            *tokens = cursor.number("an expert's number of tokens")?.saturating_add(1);
        }
    }
    Ok(())
}

/// Bounds-checked reading.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` starts in the file.
    base: u64,
}

impl<'a> Cursor<'a> {
    fn place(&self) -> u64 {
        self.base + self.at as u64
    }

    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Problem> {
        if n > self.bytes.len() - self.at {
            return Err(Problem::Truncated { what, at: self.place() });
        }
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, Problem> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, Problem> {
        let bytes = self.take(8, what)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    fn count(&mut self, what: &'static str, max: u32) -> Result<usize, Problem> {
        let got = self.u32(what)?;
        check_below(what, u64::from(got), u64::from(max) + 1)?;
        Ok(got as usize)
    }

    fn text(&mut self, n: usize, what: &'static str) -> Result<String, Problem> {
        let at = self.place();
        let bytes = self.take(n, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Problem::Malformed { what, at })
    }

    /// LEB128 of a u32.
    fn number(&mut self, what: &'static str) -> Result<u32, Problem> {
        let at = self.place();
        let mut number = 0;
        for shift in (0..=28).step_by(7) {
            let byte = self.take(1, what)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(number).map_err(|_| Problem::Malformed { what, at });
            }
        }
        Err(Problem::Malformed { what, at })
    }
}
