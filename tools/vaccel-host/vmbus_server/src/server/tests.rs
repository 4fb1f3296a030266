// SPDX-License-Identifier: MIT OR Apache-2.0
//! Conversations: a fake guest sends bytes, and exactly the expected bytes come back.

mod conversations;
mod fake;
mod hostile;
mod versions;
