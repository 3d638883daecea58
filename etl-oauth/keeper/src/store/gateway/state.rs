use super::EMPTY;
use crate::{
    store::{
        Codec, Key, Meta, StoreError,
        mounted_secret::{MountedSecret, Sight},
    },
    token::{CorruptRecord, Record, Secret, Tokens},
};

/// The record as this process knows it, and what it has seen of the mounted files.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) record: Record,
    pub(super) meta: Meta,
    pub(super) version: u64,
    pub(super) mounted: Vec<MountedSecret>,
    /// Digest of a mounted record that cannot be read: a write replaces it, and its file shows it for a while.
    pub(super) damaged: Option<String>,
}

impl Held {
    pub(super) fn knows(&self, seen: &[Option<Secret>]) -> bool {
        let known = |(mounted, value): (&MountedSecret, &Option<Secret>)| {
            value.as_ref().is_some_and(|value| mounted.knows(value))
        };
        self.mounted.iter().zip(seen).all(known)
    }

    pub(super) fn see(&mut self, seen: &[Option<Secret>], codec: &Codec) -> Result<(), StoreError> {
        self.mounted.resize_with(seen.len(), MountedSecret::default);
        let is_token = |value: &Secret| value.expose() != EMPTY;
        let mut whole = None;
        if let ([mounted], [Some(value)]) = (&self.mounted[..], seen)
            && !mounted.knows(value)
            && is_token(value)
        {
            // Before the value counts as seen: a damaged record must go on being an error, not become "no token".
            let decoded = decode(codec, value);
            self.damaged = decoded.is_err().then(|| value.digest());
            whole = Some(decoded?);
        }
        let mut foreign = vec![None; seen.len()];
        for ((mounted, value), foreign) in self.mounted.iter_mut().zip(seen).zip(&mut foreign) {
            if let Some(value) = value
                && mounted.look(value) == Sight::Foreign
            {
                *foreign = Some(value);
            }
        }
        match foreign[..] {
            [Some(_)] => self.adopt(whole.unwrap_or_default()),
            [access, refresh] if access.is_some() || refresh.is_some() => {
                // A file that still shows an older value of ours is no part of the edit: our value stands for it.
                let ours = self.record.tokens.as_ref();
                let access =
                    access.cloned().or_else(|| ours.map(|tokens| tokens.access_token.clone())).filter(is_token);
                let refresh =
                    refresh.cloned().or_else(|| ours.and_then(|tokens| tokens.refresh_token.clone())).filter(is_token);
                let tokens = (access.is_some() || refresh.is_some()).then(|| Tokens::bare(access, refresh));
                self.adopt(Record { tokens, ..Record::default() });
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what somebody else wrote. Its generation is new to whoever holds tokens of ours.
    fn adopt(&mut self, record: Record) {
        let newer = if self.version == 0 { u64::from(record.tokens.is_some()) } else { self.record.generation + 1 };
        self.record = Record { generation: record.generation.max(newer), ..record };
        self.meta = Meta::default();
        self.version += 1;
    }
}

/// The record that a mounted secret holds.
pub(super) fn decode(codec: &Codec, value: &Secret) -> Result<Record, StoreError> {
    let (_, json) = codec.decode(&Key::default(), value.expose().as_bytes())?;
    Record::from_json(&json).map_err(corrupt)
}

pub(super) fn corrupt(err: CorruptRecord) -> StoreError {
    StoreError::Corrupt(err.to_string().into()).because(err)
}
