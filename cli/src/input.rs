//! Reads whole inputs, with a limit: a device or a pipe may never end.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// The largest payload, or file of recorded answers, in bytes: more than any provider accepts.
pub(crate) const MOST: usize = 1 << 26;

pub(crate) fn file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    all_of(File::open(path)?, most)
}

pub(crate) fn all_of(from: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than the limit, to detect an input that is too long.
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        let what = format!("it has more than {most} bytes, and no more are read");
        return Err(io::Error::new(ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}
