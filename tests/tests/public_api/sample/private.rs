#[derive(PartialEq)]
pub struct Hidden(pub u8);

impl Hidden {
    pub fn seen(self) {}
}

pub const fn make() -> Hidden {
    Hidden(1)
}

pub struct Unreachable;
