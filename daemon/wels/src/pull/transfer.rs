//! One file over HTTP: resumed by Range, hashed as it comes, renamed when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Bytes moved at a time.
const BUFFER: usize = 1 << 20;

/// A file to fetch, and what is known of it.
#[derive(Debug)]
pub(crate) struct Transfer<'a> {
    pub(crate) url: String,
    pub(crate) dest: &'a Path,
    /// Published size, where it is known.
    pub(crate) bytes: Option<u64>,
    /// Published SHA-256 in hex, where it is known.
    pub(crate) sha256: Option<&'a str>,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) bytes: u64,
    /// Of these, there before.
    pub(crate) resumed_from: u64,
    pub(crate) sha256: String,
}

impl Transfer<'_> {
    /// Fetches the file; `progress(done, total)` follows it. A former try's `.part` file is continued; a file whose hash
    /// is wrong is put aside as `.bad` and not used.
    pub(crate) fn run(&self, progress: &mut dyn FnMut(u64, Option<u64>)) -> Result<Fetched> {
        let part = sibling(self.dest, "part");
        let mut hash = Sha256::new();
        let there =
            hash_existing(&part, &mut hash).with_context(|| format!("cannot read {}", part.display()))?;
        let (mut body, start, total) = self.open(there)?;
        if start == 0 {
            hash = Sha256::new();
        }
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(&part);
        let mut file = file.with_context(|| format!("cannot write {}", part.display()))?;
        file.set_len(start)?;
        file.seek(SeekFrom::Start(start))?;
        let bytes = copy(&mut body, &mut file, &mut hash, start, &mut |done| progress(done, total))
            .with_context(|| format!("{} broke off; run the same command again to go on", self.url))?;
        file.sync_all()?;
        let sha256 = hex(&hash.finalize());
        self.check(bytes, total, &sha256, &part)?;
        fs::rename(&part, self.dest).with_context(|| format!("cannot write {}", self.dest.display()))?;
        Ok(Fetched { bytes, resumed_from: start, sha256 })
    }

    /// Asks for what is missing. Returns the body, where it starts, and the size of the whole.
    fn open(&self, there: u64) -> Result<(Box<dyn Read>, u64, Option<u64>)> {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request = agent.get(&self.url);
        if there > 0 {
            request = request.header("Range", format!("bytes={there}-"));
        }
        let response = request.call().with_context(|| format!("cannot reach {}", self.url))?;
        let length =
            response.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let status = response.status().as_u16();
        match status {
            200 => Ok((Box::new(response.into_body().into_reader()), 0, length.or(self.bytes))),
            206 => {
                let total = length.map(|rest| rest + there).or(self.bytes);
                Ok((Box::new(response.into_body().into_reader()), there, total))
            }
            // All of it is there already: an empty rest.
            416 if there > 0 => Ok((Box::new(io::empty()), there, Some(there))),
            404 => bail!("{}: not found there; check --from and the catalogue's file name", self.url),
            401 | 403 => bail!("{}: refused ({status}); the publisher may ask for an account", self.url),
            _ => bail!("{}: the server answered {status}", self.url),
        }
    }

    fn check(&self, bytes: u64, total: Option<u64>, sha256: &str, part: &Path) -> Result<()> {
        if let Some(total) = total.filter(|&total| bytes < total) {
            bail!("{}: {bytes} of {total} bytes came; run the same command again to go on", self.url);
        }
        let wrong_size = self.bytes.filter(|&want| want != bytes);
        let wrong_hash = self.sha256.filter(|want| !want.eq_ignore_ascii_case(sha256));
        if wrong_size.is_none() && wrong_hash.is_none() {
            return Ok(());
        }
        let bad = sibling(self.dest, "bad");
        fs::rename(part, &bad)?;
        let want = wrong_hash.map_or_else(|| format!("{} bytes", self.bytes.unwrap_or(0)), ToOwned::to_owned);
        bail!(
            "{}: {bytes} bytes with sha256 {sha256}, want {want}; kept as {} and not used",
            self.url,
            bad.display()
        )
    }
}

fn copy(
    body: &mut dyn Read,
    file: &mut File,
    hash: &mut Sha256,
    start: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut done = start;
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        file.write_all(&buffer[..n]).context("cannot write (is the disk full?)")?;
        hash.update(&buffer[..n]);
        done += n as u64;
        progress(done);
    }
}

/// Bytes of `path`, fed to `hash`; 0 where it isn't there.
fn hash_existing(path: &Path, hash: &mut Sha256) -> io::Result<u64> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut buffer = vec![0; BUFFER];
    let mut n_bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(n_bytes),
            n => {
                hash.update(&buffer[..n]);
                n_bytes += n as u64;
            }
        }
    }
}

fn sibling(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(extension);
    path.with_file_name(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// Serves `content` on loopback, honouring Range; the first answer breaks off after `cut` bytes.
    fn file_server(content: &'static [u8], cut: Option<usize>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/model.gguf", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for (idx, stream) in listener.incoming().take(3).enumerate() {
                let mut stream = stream.unwrap();
                let mut range = None;
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap().to_ascii_lowercase();
                    if line.is_empty() {
                        break;
                    }
                    if let Some(from) = line.strip_prefix("range: bytes=") {
                        range = from.trim_end_matches('-').parse::<usize>().ok();
                    }
                }
                let rest = &content[range.unwrap_or(0)..];
                let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    rest.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                let n = cut.filter(|_| idx == 0).unwrap_or(rest.len()).min(rest.len());
                stream.write_all(&rest[..n]).unwrap();
            }
        });
        url
    }

    static CONTENT: [u8; 100_000] = {
        let mut content = [0; 100_000];
        let mut i = 0;
        while i < content.len() {
            content[i] = (i % 251) as u8;
            i += 1;
        }
        content
    };

    fn sha256() -> String {
        hex(&Sha256::digest(CONTENT))
    }

    #[test]
    fn a_broken_transfer_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (dest, sha256) = (dir.path().join("model.gguf"), sha256());
        let url = file_server(&CONTENT, Some(40_000));
        let bytes = Some(CONTENT.len() as u64);
        let transfer = Transfer { url, dest: &dest, bytes, sha256: Some(&sha256) };
        let error = transfer.run(&mut |_, _| {}).unwrap_err();
        assert!(format!("{error:#}").contains("run the same command again"), "{error:#}");
        assert!(!dest.exists());
        let fetched = transfer.run(&mut |_, _| {}).unwrap();
        assert_eq!(fetched, Fetched { bytes: 100_000, resumed_from: 40_000, sha256: sha256.clone() });
        assert_eq!(fs::read(&dest).unwrap(), CONTENT);
    }

    #[test]
    fn a_wrong_hash_is_never_used_and_never_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("model.gguf");
        let url = file_server(&CONTENT, None);
        let transfer = Transfer { url, dest: &dest, bytes: None, sha256: Some("00") };
        let error = transfer.run(&mut |_, _| {}).unwrap_err();
        assert!(format!("{error:#}").contains(&sha256()), "{error:#}");
        assert!(!dest.exists());
        assert!(dir.path().join("model.gguf.bad").exists());
    }
}
