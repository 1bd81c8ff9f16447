//! What is read whole, and may turn out to have no end: a device, or a pipe that somebody feeds for ever.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// How large a payload, or a file of recorded answers, may be, in bytes: more than any provider takes.
pub(crate) const MOST: usize = 1 << 26;

pub(crate) fn file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    all_of(File::open(path)?, most)
}

pub(crate) fn all_of(from: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is taken, so that it is known to be too long.
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        let what = format!("it has more than {most} bytes, and no more are read");
        return Err(io::Error::new(ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}
