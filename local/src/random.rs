//! Random values that cannot be guessed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// 256 bits from the operating system.
pub(crate) fn bytes() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// The same as 43 characters that need no escaping anywhere.
pub(crate) fn token() -> anyhow::Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(bytes()?))
}
