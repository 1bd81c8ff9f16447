pub struct Deep;

impl core::fmt::Display for Deep {}
