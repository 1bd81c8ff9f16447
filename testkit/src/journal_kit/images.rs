//! The bytes of a journal's files, to be copied, damaged and put somewhere else.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, process};

/// The journal's own file, in its directory.
pub(super) const FILE: &str = "journal";

/// A temporary directory. In memory if the system has such a place: thousands of damaged files need no disk.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("steadfast-kit-{}-{number}", process::id()));
        fs::create_dir(&path).expect("a scratch directory");
        Self(path)
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.0.join(FILE)
    }

    /// The files as a crash would leave them now.
    pub(super) fn image(&self) -> Image {
        let files = fs::read_dir(&self.0).expect("the scratch directory").map(|file| {
            let path = file.expect("a directory's entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned();
            (name, fs::read(path).expect("a readable file"))
        });
        Image { files: files.collect() }
    }

    /// Writes an image's files, in place of those here.
    pub(super) fn lay_out(&self, image: &Image) {
        for file in fs::read_dir(&self.0).expect("the scratch directory") {
            fs::remove_file(file.expect("a directory's entry").path()).expect("a removable file");
        }
        for (name, bytes) in &image.files {
            fs::write(self.0.join(name), bytes).expect("a writable file");
        }
    }

    /// Writes these bytes into the existing files, as a process would that has them open as well.
    pub(super) fn write_over(&self, image: &Image) {
        for name in self.image().files.into_keys().filter(|name| !image.files.contains_key(name)) {
            fs::remove_file(self.0.join(name)).expect("a removable file");
        }
        for (name, bytes) in &image.files {
            // Cut to its length only at the end, so that it is never shorter than it was.
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(self.0.join(name))
                .expect("a file");
            file.write_all(bytes).and_then(|()| file.set_len(bytes.len() as u64)).expect("a writable file");
        }
    }

    pub(super) fn move_to(&self, other: &Self) {
        for name in self.image().files.keys() {
            fs::rename(self.0.join(name), other.0.join(name)).expect("a movable file");
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// The same, with one file changed.
    pub(super) fn with(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut image = self.clone();
        change(image.files.entry(name.to_owned()).or_default());
        image
    }

    pub(super) fn without(&self, name: &str) -> Self {
        let mut image = self.clone();
        image.files.remove(name);
        image
    }
}
