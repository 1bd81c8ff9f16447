mod inner;

pub use self::inner::Deep;
