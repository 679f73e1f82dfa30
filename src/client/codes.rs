//! The error codes that the client itself acts on.

#[derive(Clone, Copy)]
pub struct ErrorCode(i16);

impl ErrorCode {
    pub const OFFSET_OUT_OF_RANGE: Self = Self(1);
    pub const UNKNOWN_TOPIC_OR_PARTITION: Self = Self(3);
    pub const LEADER_NOT_AVAILABLE: Self = Self(5);
    pub const NOT_LEADER_OR_FOLLOWER: Self = Self(6);
    pub const UNSUPPORTED_VERSION: Self = Self(35);
    pub const UNKNOWN_TOPIC_ID: Self = Self(100);

    pub fn code(self) -> i16 {
        self.0
    }

    pub fn name_of(code: i16) -> String {
        format!("error {code}")
    }
}
