//! What a process leaves behind when it dies: records in memory, or the files of a journal on SQLite.
//!
//! Each process opens the files anew. One that dies is not allowed to close them: they are put back as they lay there
//! at that moment, the log beside them and nothing tidied. So whatever the next one finds is what a killed process
//! would have left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::{env, fs, process};

use steadfast_core::{Key, Timestamp};
use steadfast_store::sqlite::MayLock;
use steadfast_store::{Entry, MemoryStore, OpenError, SqliteStore, Store, StoreError};

use crate::life::{Life, Point};

/// Which store a world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Memory,
    Sqlite,
}

impl On {
    pub(crate) const BOTH: [Self; 2] = [Self::Memory, Self::Sqlite];
}

/// A journal's files, by what follows its name.
pub(crate) type Image = BTreeMap<&'static str, Vec<u8>>;

pub(crate) const SUFFIXES: [&str; 3] = ["", "-wal", "-mark"];

/// A copy of all that a disk holds.
pub(crate) enum Backup {
    Records(Vec<Entry>),
    Files(Image),
}

/// A disk. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<Kept>>);

enum Kept {
    Memory(MemoryStore),
    Files(Box<Files>),
}

/// A directory that goes away, and the process that has the journal in it open.
struct Files {
    directory: PathBuf,
    open: Option<(Life, SqliteStore)>,
    /// What was found in it since the last process closed it: to open it again and again is most of what the rows
    /// cost.
    closed: Option<MemoryStore>,
    /// Whether processes open a journal without its mark, as one that was put back.
    opens_unmarked: bool,
}

impl Disk {
    pub(crate) fn new(on: On) -> Self {
        Self(Arc::new(Mutex::new(match on {
            On::Memory => Kept::Memory(MemoryStore::default()),
            On::Sqlite => Kept::Files(Box::new(Files::new())),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    /// What a process that starts has of it.
    pub(crate) fn open(&self, life: &Life) -> Result<Process, OpenError> {
        if let Kept::Files(files) = &mut *self.lock() {
            files.bury();
            // If a living process has it, this must be refused.
            files.closed = None;
            let store = match SqliteStore::open(files.journal()) {
                Err(OpenError::Unmarked { .. }) if files.opens_unmarked => SqliteStore::open_backup(files.journal())?,
                opened => opened?,
            };
            files.open = Some((life.clone(), store));
        }
        life.passes(Point::Opened);
        Ok(Process { life: life.clone(), disk: self.clone(), commits: 0 })
    }

    pub(crate) fn find(&self, key: &Key) -> Option<Entry> {
        self.lock().look(|store| store.find(key).unwrap())
    }

    pub(crate) fn backup(&self) -> Backup {
        let mut kept = self.lock();
        match &mut *kept {
            Kept::Memory(store) => Backup::Records(store.load().unwrap()),
            Kept::Files(files) => Backup::Files(files.at_rest().image()),
        }
    }

    /// What [`SqliteStore::back_up`] makes of its journal.
    pub(crate) fn backed_up(&self) -> Image {
        match &mut *self.lock() {
            Kept::Files(files) => files.at_rest().backed_up(),
            Kept::Memory(_) => panic!("it has no files"),
        }
    }

    /// From now on processes open a journal without its mark, as one that was put back.
    pub(crate) fn open_unmarked(&self) {
        if let Kept::Files(files) = &mut *self.lock() {
            files.opens_unmarked = true;
        }
    }

    pub(crate) fn put_back(&self, backup: &Backup) {
        let mut kept = self.lock();
        match (&mut *kept, backup) {
            (Kept::Memory(store), Backup::Records(entries)) => {
                *store = MemoryStore::default();
                store.append(entries).unwrap();
            }
            (Kept::Files(files), Backup::Files(image)) => files.replace(image),
            _ => panic!("another disk's"),
        }
    }

    /// A disk on which nothing has ever been.
    pub(crate) fn wipe(&self) {
        let mut kept = self.lock();
        match &mut *kept {
            Kept::Memory(store) => *store = MemoryStore::default(),
            Kept::Files(files) => files.replace(&Image::new()),
        }
    }

    /// Changes every entry: another clock wrote it, say.
    pub(crate) fn edit(&self, edit: impl Fn(&mut Entry)) {
        let mut entries = self.lock().look(|store| Some(store.load().unwrap())).unwrap_or_default();
        entries.iter_mut().for_each(edit);
        self.wipe();
        self.append(&entries);
    }

    /// Writes what no process of this world has written.
    pub(crate) fn append(&self, entries: &[Entry]) {
        match &mut *self.lock() {
            Kept::Memory(store) => store.append(entries).unwrap(),
            Kept::Files(files) => {
                files.closed = None;
                SqliteStore::open(files.at_rest().journal()).unwrap().append(entries).unwrap();
            }
        }
    }

    /// The journal's files, of which no process that lives has any open.
    pub(crate) fn image(&self) -> Image {
        match self.backup() {
            Backup::Files(image) => image,
            Backup::Records(_) => panic!("it has no files"),
        }
    }

    pub(crate) fn lay_out(&self, image: &Image) {
        self.put_back(&Backup::Files(image.clone()));
    }

    /// Where it is, for a process that is none of this world's.
    pub(crate) fn journal(&self) -> PathBuf {
        match &mut *self.lock() {
            Kept::Files(files) => {
                files.closed = None;
                files.journal()
            }
            Kept::Memory(_) => panic!("it has no files"),
        }
    }
}

impl Kept {
    /// Looks at what is there, whether a process has it open or not. Nothing is changed.
    fn look<T>(&mut self, look: impl FnOnce(&mut dyn Store) -> Option<T>) -> Option<T> {
        match self {
            Self::Memory(store) => look(store),
            Self::Files(files) => match &mut files.open {
                Some((_, store)) => look(store),
                None => {
                    if files.closed.is_none() {
                        let mut found = match SqliteStore::open_read_only(files.journal()) {
                            Err(OpenError::Missing) => return None,
                            opened => opened.unwrap(),
                        };
                        let mut closed = MemoryStore::default();
                        closed.append(&found.load().unwrap()).unwrap();
                        files.closed = Some(closed);
                    }
                    look(files.closed.as_mut()?)
                }
            },
        }
    }
}

impl Files {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // In memory where there is such a place: thousands of processes need no disk.
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = root.join(format!("steadfast-rows-{}-{number}", process::id()));
        fs::create_dir(&directory).unwrap();
        Self { directory, open: None, closed: None, opens_unmarked: false }
    }

    fn journal(&self) -> PathBuf {
        self.directory.join("journal")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.directory.join(format!("journal{suffix}"))
    }

    fn image(&self) -> Image {
        read(|suffix| self.beside(suffix))
    }

    fn backed_up(&self) -> Image {
        let beside = |suffix: &str| self.directory.join(format!("backup{suffix}"));
        SqliteStore::back_up(self.journal(), beside(""), MayLock::IfTorn).unwrap();
        let image = read(beside);
        SUFFIXES.into_iter().for_each(|suffix| drop(fs::remove_file(beside(suffix))));
        image
    }

    fn lay_out(&self, image: &Image) {
        for file in fs::read_dir(&self.directory).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        for (suffix, bytes) in image {
            fs::write(self.beside(suffix), bytes).unwrap();
        }
    }

    /// The journal of somebody else, or of another time.
    fn replace(&mut self, image: &Image) {
        self.closed = None;
        self.at_rest().lay_out(image);
    }

    /// If the process that has it open is dead, leaves the files as it left them.
    fn bury(&mut self) {
        if let Some((_, store)) = self.open.take_if(|(life, _)| !life.is_alive()) {
            let left = self.image();
            drop(store);
            self.lay_out(&left);
        }
    }

    fn at_rest(&mut self) -> &Self {
        self.bury();
        assert!(self.open.is_none(), "a process that lives has it open");
        self
    }
}

fn read(beside: impl Fn(&str) -> PathBuf) -> Image {
    SUFFIXES.into_iter().filter_map(|suffix| Some((suffix, fs::read(beside(suffix)).ok()?))).collect()
}

impl Drop for Files {
    fn drop(&mut self) {
        self.open = None;
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A process's way to its disk, which may end at each commit.
pub(crate) struct Process {
    life: Life,
    disk: Disk,
    commits: u32,
}

impl Process {
    fn with<T>(&self, work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &mut *self.disk.lock() {
            _ if !self.life.is_alive() => Err(StoreError::read("the process is dead")),
            Kept::Memory(store) => work(store),
            Kept::Files(files) => match &mut files.open {
                Some((life, store)) if life.is(&self.life) => work(store),
                _ => Err(StoreError::read("the process has no store")),
            },
        }
    }
}

impl Store for Process {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.commits += 1;
        if !self.life.passes(Point::BeforeCommit(self.commits)) {
            return Err(StoreError::uncertain("the process is dead"));
        }
        if self.life.is_disk_full(self.commits) {
            return Err(StoreError::write("no space left on device"));
        }
        self.with(|store| store.append(entries))?;
        if !self.life.passes(Point::AfterCommit(self.commits)) {
            return Err(StoreError::uncertain("the process is dead"));
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.life.passes(Point::BeforeRead);
        self.with(|store| store.load())
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.life.passes(Point::BeforeRead);
        self.with(|store| store.load_live())
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.life.passes(Point::BeforeRead);
        self.with(|store| store.find(key))
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.life.passes(Point::BeforeForget);
        let forgot = self.with(|store| store.forget(before, most))?;
        if self.life.passes(Point::AfterForget) {
            Ok(forgot)
        } else {
            Err(StoreError::uncertain("the process is dead"))
        }
    }

    fn is_backup(&self) -> bool {
        matches!(&*self.disk.lock(), Kept::Files(files) if files.open.as_ref().is_some_and(|(_, store)| store.is_backup()))
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.commits += 1;
        if !self.life.passes(Point::BeforeCommit(self.commits)) {
            return Err(StoreError::uncertain("the process is dead"));
        }
        self.with(|store| store.take_into_use())?;
        if !self.life.passes(Point::AfterCommit(self.commits)) {
            return Err(StoreError::uncertain("the process is dead"));
        }
        Ok(())
    }

    /// So in one half of all rows a process dies on the driver's own task.
    fn blocks(&self) -> bool {
        matches!(&*self.disk.lock(), Kept::Files(_))
    }
}

impl Drop for Process {
    /// A process that lives closes its store.
    fn drop(&mut self) {
        if let Kept::Files(files) = &mut *self.disk.lock() {
            files.bury();
            files.open.take_if(|(life, _)| life.is(&self.life));
        }
    }
}
