//! The search for some texts; nearly all sections contain none of them.

use std::sync::OnceLock;

use aho_corasick::packed::{Config, MatchKind, Searcher};
use aho_corasick::Span;
use memchr::memmem::{find_iter, Finder};

const NOWHERE: usize = usize::MAX;

/// Up to this many texts are searched one after another; for more, one pass finds out whether any
/// of them is there.
const FEW: usize = 4;

/// Case-sensitive texts.
pub struct Texts {
    alone: Vec<Finder<'static>>,
    together: OnceLock<Option<Together>>,
}

impl Texts {
    pub fn new(texts: &[Vec<u8>]) -> Texts {
        let alone = texts.iter().map(|text| Finder::new(text).into_owned()).collect();
        Texts { alone, together: OnceLock::new() }
    }

    /// Returns the places where texts end; None if there are none.
    pub fn find<'a>(&'a self, section: &'a [u8]) -> Option<Places<'a>> {
        if self.alone.len() > FEW {
            // The first section decides what is rare.
            let together = self.together.get_or_init(|| Together::new(&self.alone, section));
            if together.as_ref().is_some_and(|together| !together.is_in(section)) {
                return None;
            }
        }
        let hit = self.alone.iter().position(|text| text.find(section).is_some())?;
        let mut next = vec![NOWHERE; hit];
        next.extend(self.alone[hit..].iter().map(|text| last_byte(text, section, 0)));
        let first = *next.iter().min()?;
        Some(Places { texts: self, section, next, first })
    }
}

/// One pass that searches for a rare part of each text, wherever in the text that part is.
struct Together {
    searcher: Searcher,
    /// By the number of a part: the texts that contain it, and where in them it begins.
    texts: Vec<Vec<(Vec<u8>, usize)>>,
}

const PART: usize = 4;

impl Together {
    /// Returns None if a text is too short, or the processor lacks the instructions.
    fn new(texts: &[Finder<'_>], sample: &[u8]) -> Option<Together> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut of_parts: Vec<Vec<(Vec<u8>, usize)>> = Vec::new();
        for text in texts.iter().map(Finder::needle) {
            let counted = text.windows(PART).enumerate();
            let (at, part) = counted.min_by_key(|(_, part)| find_iter(sample, part).count())?;
            let number = parts.iter().position(|other| *other == part).unwrap_or_else(|| {
                parts.push(part);
                of_parts.push(Vec::new());
                parts.len() - 1
            });
            of_parts[number].push((text.to_vec(), at));
        }
        let mut builder = Config::new().match_kind(MatchKind::LeftmostFirst).builder();
        Some(Together { searcher: builder.extend(parts).build()?, texts: of_parts })
    }

    /// Whether one of the texts is in a section.
    fn is_in(&self, section: &[u8]) -> bool {
        let mut from = 0;
        while let Some(found) =
            self.searcher.find_in(section, Span { start: from, end: section.len() })
        {
            let is_text = |(text, at): &(Vec<u8>, usize)| {
                let start = found.start().checked_sub(*at);
                start.is_some_and(|start| section[start..].starts_with(text))
            };
            if self.texts[found.pattern().as_usize()].iter().any(is_text) {
                return true;
            }
            from = found.start() + 1;
        }
        false
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

    /// Moves on to the texts that end at `end` or after it.
    pub fn skip_to(&mut self, end: usize) {
        for (text, next) in self.texts.alone.iter().zip(&mut self.next) {
            if *next < end {
                *next =
                    last_byte(text, self.section, (end + 1).saturating_sub(text.needle().len()));
            }
        }
        self.first = self.next.iter().copied().min().unwrap_or(NOWHERE);
    }
}

/// Returns the position of the last byte of the first occurrence that begins at or after `from`.
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
    fn many_texts_are_found_as_each_of_them_is() {
        let all = ["\"process\",", "\"process\"}", "\"process\" ", "\\u00", "cess", "Auto", "ab"];
        let section = "\"process\": \"process\", \\u0061 process Automation \"process\"}";
        for texts in [&all[..6], &all[..7], &all[1..7]] {
            let mut expected: Vec<usize> =
                texts.iter().flat_map(|text| ends(&[*text], section)).collect();
            expected.sort();
            expected.dedup();
            assert_eq!(ends(texts, section), expected);
            assert!(ends(texts, "\"proxy\": 1, cesium, Aut").is_empty());
        }
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
