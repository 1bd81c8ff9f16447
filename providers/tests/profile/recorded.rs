//! Recorded answers of public documentation, and what each is read as.
