//! The search for some texts, of which nearly all sections hold none.

use memchr::memmem::Finder;

const NOWHERE: usize = usize::MAX;

/// Texts whose case counts; each of them is searched for itself, in the fastest way.
pub struct Texts(Vec<Finder<'static>>);

impl Texts {
    pub fn new(texts: &[Vec<u8>]) -> Texts {
        Texts(texts.iter().map(|text| Finder::new(text).into_owned()).collect())
    }

    /// Returns the places where texts end; None if there is none.
    pub fn find<'a>(&'a self, section: &'a [u8]) -> Option<Places<'a>> {
        let hit = self.0.iter().position(|text| text.find(section).is_some())?;
        let mut next = vec![NOWHERE; hit];
        next.extend(self.0[hit..].iter().map(|text| last_byte(text, section, 0)));
        let first = *next.iter().min()?;
        Some(Places { texts: self, section, next, first })
    }
}

/// Where the next texts end in a section, in order.
pub struct Places<'a> {
    texts: &'a Texts,
    section: &'a [u8],
    next: Vec<usize>,
    first: usize,
}

impl Places<'_> {
    /// Whether a text ends before `end`.
    pub fn is_before(&self, end: usize) -> bool {
        self.first < end
    }

    /// Whether there is no further place.
    pub fn is_over(&self) -> bool {
        self.first == NOWHERE
    }

    /// Goes on to what ends at `end` or behind it.
    pub fn skip_to(&mut self, end: usize) {
        for (text, next) in self.texts.0.iter().zip(&mut self.next) {
            if *next < end {
                *next =
                    last_byte(text, self.section, (end + 1).saturating_sub(text.needle().len()));
            }
        }
        self.first = self.next.iter().copied().min().unwrap_or(NOWHERE);
    }
}

/// Returns where the last byte of the text is that begins at `from` or behind it.
fn last_byte(text: &Finder<'_>, section: &[u8], from: usize) -> usize {
    match section.get(from..).and_then(|rest| text.find(rest)) {
        Some(place) => from + place + text.needle().len() - 1,
        None => NOWHERE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(texts: &[&str], section: &str) -> Vec<usize> {
        let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let texts = Texts::new(&texts);
        let mut found = Vec::new();
        let mut places = match texts.find(section.as_bytes()) {
            None => return found,
            Some(places) => places,
        };
        while !places.is_over() {
            found.push(places.first);
            places.skip_to(places.first + 1);
        }
        found
    }

    #[test]
    fn every_place_where_a_text_ends_is_told_once() {
        assert_eq!(ends(&["ab", "bab"], "abab, ab"), [1, 3, 7]);
        assert_eq!(ends(&["aa"], "aaaa"), [1, 2, 3]);
        assert!(ends(&["x", "y"], "abab").is_empty());
    }

    #[test]
    fn a_text_that_overlaps_the_end_of_a_record_belongs_to_the_next_one() {
        let texts = Texts::new(&[b"abcd".to_vec()]);
        let mut places = texts.find(b"--abcd--abcd").unwrap();
        assert!(!places.is_before(5));
        assert!(places.is_before(6));
        places.skip_to(6);
        assert!(!places.is_before(11));
        assert!(places.is_before(12));
        places.skip_to(12);
        assert!(places.is_over());
    }
}
