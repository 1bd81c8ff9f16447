//! What is wrong with a document, and where.

use core::fmt;

/// A place in a document: the line, from 1, and the field's name from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) field: Box<str>,
}

impl Place {
    /// A line of the file, without a field.
    pub(crate) fn at(line: usize) -> Self {
        Self { line, field: "".into() }
    }

    /// The field of this name within the one at this place.
    pub(crate) fn below(&self, line: usize, name: &str) -> Self {
        // A quoted name may hold any character, and it is shown.
        let name = name.escape_debug();
        let field = if self.field.is_empty() { name.to_string() } else { format!("{}.{name}", self.field) };
        Self { line, field: field.into() }
    }

    /// The item of this index of this list.
    pub(crate) fn item(&self, line: usize, index: usize) -> Self {
        Self { line, field: format!("{}[{index}]", self.field).into() }
    }

    pub(crate) fn refuse<T>(&self, problem: impl Into<Box<str>>) -> Result<T, DocumentError> {
        Err(DocumentError::new(self, problem))
    }
}

/// A file was refused: the line, the field, what is wrong with it, and what would be right.
///
/// It repeats field names and numbers. It repeats a text only where a profile has a header's name or a JSON Pointer.
///
/// ```
/// use steadfast_providers::profile::Profile;
///
/// let wrong = Profile::parse("name = \"acme\"\nbase_url = \"http://api.example.com\"").unwrap_err();
/// assert_eq!((wrong.line(), wrong.field()), (2, "base_url"));
/// assert!(wrong.to_string().starts_with("line 2, base_url: "));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    place: Place,
    problem: Box<str>,
}

impl DocumentError {
    pub(crate) fn new(place: &Place, problem: impl Into<Box<str>>) -> Self {
        Self { place: place.clone(), problem: problem.into() }
    }

    pub(super) fn with(self, more: &str) -> Self {
        Self { problem: format!("{}{more}", self.problem).into(), ..self }
    }

    /// The line of the file, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.place.line
    }

    /// The field, from the top: `poll.state.values`. Empty if the text could not be parsed at all.
    #[must_use]
    pub const fn field(&self) -> &str {
        &self.place.field
    }

    /// What is wrong with it, and what would be right.
    #[must_use]
    pub const fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place: Place { line, field }, problem } = self;
        match &**field {
            "" => write!(f, "line {line}: {problem}"),
            field => write!(f, "line {line}, {field}: {problem}"),
        }
    }
}

impl core::error::Error for DocumentError {}
