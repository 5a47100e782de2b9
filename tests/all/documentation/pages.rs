//! The pages of the documentation, taken apart: lines outside of code blocks, code blocks, code spans, links, headings.

use std::path::{Path, PathBuf};

use crate::support::harness::root;

/// Where pages are; every Markdown file of these directories is one.
const DIRS: [&str; 5] = ["", "host/docs", "guest-sdk/docs", "tests", "tests/bench"];

/// One page.
pub(crate) struct Page {
    /// Path from the root of the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A fenced block of code.
pub(crate) struct Block<'a> {
    pub(crate) language: &'a str,
    pub(crate) lines: Vec<&'a str>,
}

/// Every page.
pub(crate) fn all() -> Vec<Page> {
    let mut pages = Vec::new();
    for dir in DIRS {
        for file in std::fs::read_dir(root().join(dir)).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "md") {
                let path = file.strip_prefix(root()).unwrap().to_owned();
                pages.push(Page { text: std::fs::read_to_string(&file).unwrap(), path });
            }
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    pages
}

/// The page at this path from the root of the repository.
pub(crate) fn page(path: &str) -> Page {
    let found = all().into_iter().find(|page| page.path == Path::new(path));
    found.unwrap_or_else(|| panic!("there is no page `{path}`"))
}

impl Page {
    /// Lines outside of code blocks.
    pub(crate) fn prose(&self) -> impl Iterator<Item = &str> {
        let mut fenced = false;
        self.text.lines().filter(move |line| {
            let fence = line.starts_with("```");
            fenced ^= fence;
            !fence && !fenced
        })
    }

    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        let (mut blocks, mut open) = (Vec::new(), None::<Block<'_>>);
        for line in self.text.lines() {
            match (line.strip_prefix("```"), open.take()) {
                (Some(language), None) => open = Some(Block { language, lines: Vec::new() }),
                (Some(_), Some(block)) => blocks.push(block),
                (None, Some(mut block)) => {
                    block.lines.push(line);
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a code block has no end", self.path.display());
        blocks
    }

    /// Code within a line.
    pub(crate) fn spans(&self) -> Vec<&str> {
        self.prose().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
    }

    /// Targets of links that are no URLs.
    pub(crate) fn links(&self) -> Vec<&str> {
        let targets = self.prose().flat_map(|line| line.split("](").skip(1));
        targets.filter_map(|rest| rest.split(')').next()).filter(|target| !target.contains("://")).collect()
    }

    /// The fragments by which a link can name its headings, as GitHub makes them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.prose().filter(|line| line.starts_with('#'));
        headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}
