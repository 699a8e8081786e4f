//! Exit codes: 0 ok; 1 a model, test or sync failed; 2 definitions or usage wrong; 3 a policy refused; 75 try
//! again later; 130 interrupted after a clean stop.

use crate::error::{Error, ErrorKind};
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Ok,
    Failed,
    Wrong,
    Refused,
    Busy,
    Interrupted,
}

impl Exit {
    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Wrong => 2,
            Self::Refused => 3,
            Self::Busy => 75,
            Self::Interrupted => 130,
        })
    }

    pub(super) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Failed | ErrorKind::Data | ErrorKind::Storage => Self::Failed,
            ErrorKind::Usage => Self::Wrong,
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Busy => Self::Busy,
            ErrorKind::Interrupted => Self::Interrupted,
        }
    }
}
