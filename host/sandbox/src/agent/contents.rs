//! The names in a component: its imports, its exports, and the tools that made it. They are read from its bytes, which takes
//! milliseconds where a compilation takes a minute.
//!
//! Nothing is validated here; the compiler does that.
//!
//! Bounds: [`NAMES_MAX`] names of each kind, and of each of as many modules, each as long as [`frame_name`] keeps.

use super::manifest;
use serde::{Deserialize, Serialize};
use wasm_worker_core::language::Language;
use wasm_worker_core::verdict::frame_name;
use wasmparser::{
    BinaryReader, CanonicalFunction, CanonicalOption, ComponentTypeRef, Parser, Payload, ProducersSectionReader,
    TypeBounds,
};

/// Most names of each kind that are kept.
const NAMES_MAX: usize = 1_000;
/// The custom section that names languages and tools.
const PRODUCERS: &str = "producers";

/// The names in a component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "two facts that have nothing to do with each other")]
pub(super) struct Contents {
    /// The imports, with their versions.
    pub(super) imports: Vec<String>,
    /// The exports.
    pub(super) exports: Vec<String>,
    /// The language, where the component tells.
    pub(super) language: Option<Language>,
    /// The text of its manifest; see `manifest`.
    pub(super) manifest: Option<String>,
    /// Whether it uses the asynchronous functions of WASI 0.3.
    pub(super) is_async: bool,
    /// Whether the component was read to its end. A truncated one lacks its exports.
    pub(super) is_whole: bool,
}

impl Contents {
    /// Read a component.
    pub(super) fn read(component: &[u8]) -> Self {
        let mut walk = Walk::default();
        for payload in Parser::new(0).parse_all(component) {
            let Ok(payload) = payload else { return walk.end(false) };
            if walk.read(payload).is_err() {
                return walk.end(false);
            }
        }
        walk.end(true)
    }
}

/// The way through a component.
#[derive(Default)]
struct Walk {
    /// The number of components and modules around the present place.
    depth: usize,
    contents: Contents,
    /// The names of tools, languages and libraries of each module and component that has some.
    producers: Vec<Vec<String>>,
}

impl Walk {
    fn read(&mut self, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::Version { .. } => self.depth += 1,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if self.depth == 1 => {
                for import in section {
                    let import = import?;
                    // The name of a type, which nobody has to supply.
                    if !matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))) {
                        keep(&mut self.contents.imports, import.name.name);
                    }
                }
            }
            Payload::ComponentExportSection(section) if self.depth == 1 => {
                for export in section {
                    keep(&mut self.contents.exports, export?.name.name);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.contents.is_async |= is_async(&function?);
                }
            }
            Payload::CustomSection(section) if section.name() == PRODUCERS => {
                // A section that cannot be read names nobody.
                let names = producers(section.data(), section.data_offset()).unwrap_or_default();
                self.keep_producers(names);
            }
            Payload::CustomSection(section) if section.name() == manifest::SECTION && self.depth == 1 => {
                // One that is too long is cut, and cannot be read then.
                let data = section.data().get(..=manifest::TEXT_BYTES_MAX).unwrap_or(section.data());
                self.contents.manifest = Some(String::from_utf8_lossy(data).into_owned());
            }
            // A module that links the libraries of an interpreter exports `library.so:symbol`.
            Payload::ExportSection(section) => {
                let mut libraries = Vec::new();
                for export in section {
                    if let Some((library, _)) = export?.name.split_once(".so:")
                        && libraries.last().is_none_or(|last| last != library)
                    {
                        keep(&mut libraries, library);
                    }
                }
                self.keep_producers(libraries);
            }
            _ => {}
        }
        Ok(())
    }

    fn keep_producers(&mut self, names: Vec<String>) {
        if !names.is_empty() && self.producers.len() < NAMES_MAX {
            self.producers.push(names);
        }
    }

    fn end(self, is_whole: bool) -> Contents {
        let language = Language::of_producers(&self.producers);
        Contents { language, is_whole, ..self.contents }
    }
}

/// The names of one section.
fn producers(data: &[u8], offset: usize) -> wasmparser::Result<Vec<String>> {
    let mut names = Vec::new();
    for field in ProducersSectionReader::new(BinaryReader::new(data, offset))? {
        for value in field?.values {
            keep(&mut names, value?.name);
        }
    }
    Ok(names)
}

fn keep(names: &mut Vec<String>, name: &str) {
    if names.len() < NAMES_MAX {
        names.push(frame_name(name));
    }
}

/// Whether this is one of the functions that only asynchronous components have.
fn is_async(function: &CanonicalFunction) -> bool {
    let option = |option: &CanonicalOption| matches!(option, CanonicalOption::Async | CanonicalOption::Callback(_));
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.iter().any(option)
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Contents {
        Contents::read(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn names_are_those_of_the_outer_component() {
        let contents = read(
            "(component
                (import \"wasi:http/types@0.2.0\" (instance))
                (type $t string)
                (import \"name\" (type (eq $t)))
                (component (import \"inner\" (func)) (export \"also-inner\" (func 0)))
                (core module (func (export \"core\")))
                (core module $m (func (export \"f\")))
                (core instance $i (instantiate $m))
                (func $f (canon lift (core func $i \"f\")))
                (export \"prewarm\" (func $f)))",
        );
        assert_eq!(contents.imports, ["wasi:http/types@0.2.0"]);
        assert_eq!(contents.exports, ["prewarm"]);
        assert!(contents.is_whole && !contents.is_async && contents.language.is_none());
    }

    #[test]
    fn asynchronous_functions_and_languages_are_found() {
        assert!(read("(component (core func (canon task.cancel)))").is_async);
        let go = read("(component (core module (@producers (language \"Go\" \"1.27\"))))");
        assert_eq!(go.language, Some(Language::Go));
        let linker = "(component (core module (func $f) (export \"libcomponentize_py_runtime.so:errno\" (func $f))))";
        assert_eq!(read(linker).language, Some(Language::Python));
    }

    #[test]
    fn a_truncated_component_is_not_whole_and_foreign_bytes_are_bounded() {
        let whole = wat::parse_str("(component (import \"a\" (func)) (import \"b\" (instance)))").unwrap();
        assert!(Contents::read(&whole).is_whole);
        for end in 0..whole.len() {
            Contents::read(&whole[..end]);
        }
        assert!(!Contents::read(&whole[..whole.len() - 1]).is_whole);
        let many: String = (0..NAMES_MAX + 5).map(|n| format!("(import \"n{n}\" (func))")).collect();
        assert_eq!(read(&format!("(component {many})")).imports.len(), NAMES_MAX);
        let long = format!("(component (import \"{}\" (func)))", "n".repeat(5_000));
        assert!(read(&long).imports[0].len() < 500);
    }
}
