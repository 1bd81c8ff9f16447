//! Settings in files: TOML, JSON and YAML, read as one.
//!
//! A [`Document`] is a file's text as a tree that knows the line of everything in it. Errors name the line and the
//! field, in the same words for each format, and do not repeat the value: it may be a secret in the wrong place.
//!
//! ```text
//!  text ── toml.rs ──┐
//!  text ── json.rs ──┼─▶ Document ──▶ read::<T>()          any settings, by serde (setting.rs)
//!  text ── yaml.rs ──┘           └──▶ Profile::read        a provider, field by field
//! ```
//!
//! ```
//! use std::time::Duration;
//! use steadfast_core::retry::RetryPolicy;
//! use steadfast_providers::document::{Document, Format};
//!
//! let policy: RetryPolicy = Document::parse("attempts = 3\ndeadline = \"1m30s\"", Format::Toml)?.read()?;
//! assert_eq!((policy.attempts(), policy.deadline()), (3, Duration::from_secs(90)));
//!
//! let wrong = Document::parse("{\"attempts\": 3,\n \"dedline\": \"1m\"}", Format::Json)?.read::<RetryPolicy>().unwrap_err();
//! assert!(wrong.to_string().starts_with("line 2, dedline: is no field here: did you mean deadline?"));
//! # Ok::<(), steadfast_providers::document::DocumentError>(())
//! ```
//!
//! A document can also say only what it changes of other settings: see [`Document::read_over`].
//!
//! # What is not read
//!
//! Files are written by people and read by several programs, so everything that two readers may understand differently
//! is refused. A name that is there twice is refused in every format. Of YAML also: `yes`, `no`, `on`, `off`, `y` and
//! `n` without quotes (truth values in YAML 1.1, texts in 1.2), numbers that begin with a zero, have another base,
//! underscores or colons (`010` is 8 or 10), or an exponent without a point before it or a sign in it (`1e3` is a text
//! in 1.1), anchors, aliases and merge keys (a short file can expand to gigabytes), tags, names that are not text,
//! lines that end in a carriage return alone, and a second document. A date without quotes is a text.
//!
//! A document has at most 256 KiB and is at most 32 levels deep.

mod error;
mod json;
mod nearest;
mod setting;
mod toml;
mod tree;
#[cfg(feature = "yaml")]
mod yaml;

use core::fmt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::error::DocumentError;
pub(crate) use self::error::Place;
pub(crate) use self::nearest::did_you_mean;
pub(crate) use self::tree::{Data, Entry, Node};

/// The formats of a document. TOML and JSON are always available; YAML needs the feature `yaml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// TOML 1.1.
    Toml,
    /// JSON (RFC 8259).
    Json,
    /// YAML 1.2.
    #[cfg(feature = "yaml")]
    Yaml,
}

impl Format {
    /// The format that a file's extension stands for: `toml`, `json`, and with the feature `yaml` also `yaml` and
    /// `yml`. `None` for any other.
    ///
    /// ```
    /// use std::path::Path;
    /// use steadfast_providers::document::Format;
    ///
    /// assert_eq!(Format::of(Path::new("acme.JSON")), Some(Format::Json));
    /// assert_eq!(Format::of(Path::new("acme")), None);
    /// ```
    #[must_use]
    pub fn of(file: &Path) -> Option<Self> {
        let extension = file.extension()?.to_str()?.to_ascii_lowercase();
        match &*extension {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            #[cfg(feature = "yaml")]
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Toml => "TOML",
            Self::Json => "JSON",
            #[cfg(feature = "yaml")]
            Self::Yaml => "YAML",
        })
    }
}

/// A settings file, parsed but not yet interpreted. See the [module](self).
pub struct Document {
    root: Node,
}

impl Document {
    /// The longest text that is read: 256 KiB.
    pub const MAX_LEN: usize = 1 << 18;

    /// How deep tables and lists may be nested: 32.
    pub const MAX_DEPTH: usize = 32;

    /// Parses the text as a document: a table at the top, within the limits.
    ///
    /// # Errors
    /// The first thing that is wrong with it, and its line.
    pub fn parse(text: &str, format: Format) -> Result<Self, DocumentError> {
        if text.len() > Self::MAX_LEN {
            let problem = format!("the file has {} bytes, and at most {} are read", text.len(), Self::MAX_LEN);
            return Place::at(1).refuse(problem);
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = match format {
            Format::Toml => toml::parse(text)?,
            Format::Json => json::parse(text)?,
            #[cfg(feature = "yaml")]
            Format::Yaml => yaml::parse(text)?,
        };
        match root.data {
            Data::Table(_) => Ok(Self { root }),
            _ => Place::at(root.line).refuse(format!("the file is {} where a table is expected", root.kind())),
        }
    }

    /// Whether there is a field of this name at the top.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.root.entries().iter().any(|entry| *entry.name == *field)
    }

    /// Reads the whole document as settings of this type.
    ///
    /// # Errors
    /// The first thing that is wrong with it, by line and field.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
        setting::read(&self.root, &Place::at(self.root.line))
    }

    /// Reads the document as changes of these settings. What it names holds; all else stays as `base` has it, down to the
    /// single field of a table within a table. A list is one thing, and so is a setting that has become another kind of
    /// thing: what an exponential growth said does not stay in a fixed one.
    ///
    /// # Errors
    /// The first thing that is wrong with the result, by line and field. Where what is named does not fit what stays, it
    /// says so.
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_core::retry::RetryPolicy;
    /// use steadfast_providers::document::{Document, Format};
    ///
    /// let base = RetryPolicy::default().with_attempts(9)?;
    /// let changes = Document::parse("deadline = \"1m30s\"\nbackoff = { cap = \"5s\" }", Format::Toml)?;
    /// let policy: RetryPolicy = changes.read_over(&base)?;
    /// assert_eq!((policy.attempts(), policy.deadline()), (9, Duration::from_secs(90)));
    /// assert_eq!(policy.backoff().growth(), base.backoff().growth());
    ///
    /// let changes = Document::parse("backoff = { growth = { fixed = \"45s\" } }", Format::Toml)?;
    /// let wrong = changes.read_over::<RetryPolicy>(&base).unwrap_err();
    /// assert_eq!(
    ///     wrong.to_string(),
    ///     "line 1, backoff.cap: is 20s: it must be at least the first delay, 45s (the file does not name this field: it is as it was before)"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_over<T>(&self, base: &impl Serialize) -> Result<T, DocumentError>
    where
        T: DeserializeOwned + Serialize + Default,
    {
        let place = Place::at(self.root.line);
        let over = |base: serde_json::Result<Value>| match base {
            Ok(base) => Ok(self.root.over(&base)),
            Err(error) => place.refuse(format!("the settings that it changes cannot be written: {error}")),
        };
        let whole = over(serde_json::to_value(base))?;
        setting::read(&whole, &place).map_err(|error| {
            if self.root.get(error.field()).is_none() && whole.get(error.field()).is_some() {
                return error.with(" (the file does not name this field: it is as it was before)");
            }
            // What is wrong over the defaults too is the file's own mistake.
            let alone = over(serde_json::to_value(T::default())).and_then(|whole| setting::read::<T>(&whole, &place));
            let fits_not = error.problem().contains(": it must be ") && alone.err().as_ref() != Some(&error);
            if fits_not { error.with(" (by what stays as it was, since the file does not name it)") } else { error }
        })
    }

    pub(crate) const fn root(&self) -> &Node {
        &self.root
    }
}

pub(crate) use self::setting::read as read_setting;

impl fmt::Debug for Document {
    /// Without its values, which may be secrets in the wrong place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.root.entries().iter().map(|entry| &entry.name)).finish()
    }
}
