use crate::token::Secret;

/// What one mounted secret showed, beside what we wrote: tells somebody else's edit from our own write that has not
/// arrived yet. Kubernetes takes up to a minute to show a write.
#[derive(Debug, Default)]
pub(super) struct MountedSecret {
    /// What we wrote last.
    ours: Option<String>,
    /// What the file showed, and what we wrote, since it last agreed with us.
    earlier: Vec<String>,
}

/// What a look at the file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// What we know already, or an older value that our write will replace.
    Known,
    /// Somebody else's value.
    Foreign,
}

impl MountedSecret {
    /// Takes note of what the file shows.
    pub(super) fn look(&mut self, value: &Secret) -> Sight {
        let digest = value.digest();
        match &self.ours {
            Some(ours) if *ours == digest => {
                // Our write has arrived. From now on any other value, an old one too, is somebody's doing.
                self.earlier.clear();
                Sight::Known
            }
            Some(_) if self.earlier.contains(&digest) => Sight::Known,
            _ => {
                self.ours = Some(digest);
                self.earlier.clear();
                Sight::Foreign
            }
        }
    }

    /// Whether the value is what we wrote last.
    pub(super) fn is_ours(&self, value: &Secret) -> bool {
        self.ours.as_ref() == Some(&value.digest())
    }

    /// Whether the value is ours, or an older one that ours will replace.
    pub(super) fn knows(&self, value: &Secret) -> bool {
        self.is_ours(value) || self.earlier.contains(&value.digest())
    }

    /// Takes note of what the file shows until our write arrives.
    pub(super) fn replaces(&mut self, digest: String) {
        self.earlier.push(digest);
    }

    /// Takes note of what we wrote.
    pub(super) fn wrote(&mut self, value: &Secret) {
        let digest = value.digest();
        if self.ours.as_ref() != Some(&digest) {
            self.earlier.extend(self.ours.replace(digest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> Secret {
        Secret::new(value)
    }

    #[test]
    fn our_own_write_is_not_undone_by_a_file_that_lags_behind() {
        let mut mounted = MountedSecret::default();
        assert_eq!(mounted.look(&secret("empty")), Sight::Foreign);
        mounted.wrote(&secret("one"));
        mounted.wrote(&secret("two"));
        for seen in ["empty", "one", "two", "two"] {
            assert_eq!(mounted.look(&secret(seen)), Sight::Known, "{seen}");
        }
    }

    #[test]
    fn an_edit_from_outside_is_seen_even_if_it_sets_an_old_value() {
        let mut mounted = MountedSecret::default();
        mounted.look(&secret("empty"));
        mounted.wrote(&secret("one"));
        mounted.look(&secret("one"));
        assert_eq!(mounted.look(&secret("empty")), Sight::Foreign);
        assert_eq!(mounted.look(&secret("empty")), Sight::Known);
        mounted.wrote(&secret("two"));
        assert_eq!(mounted.look(&secret("theirs")), Sight::Foreign);
    }
}
