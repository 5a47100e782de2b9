//! The cost of an instance before its first instruction: work that no fuel measures and no epoch interrupts, and memory that
//! wasmtime reports to no limiter.
//!
//! Segments are free where the engine can map them from an image: in a memory or table of the module's own, at a constant offset
//! within its bounds. Others are copied for each instance. The compiler refuses what cannot be read here.
//!
//! Bounds: [`COPIED_BYTES_MAX`], [`STEPS_MAX`] and [`PASSIVE_ELEMENTS_MAX`] for one instance of a component. The memory is charged
//! to the job.

use wasmparser::{
    ComponentAlias, ConstExpr, DataKind, ElementItems, ElementKind, Encoding, ExternalKind, Instance, Operator, Parser,
    Payload, TableInit, TypeRef,
};

use crate::engine::config::CORE_INSTANCES_MAX;

/// Most bytes of data segments that an instance copies: about a millisecond. Toolchains make segments that are mapped.
const COPIED_BYTES_MAX: u64 = 8 << 20;
/// Most elements of tables and bytes of constant expressions that an instance evaluates one by one: about a millisecond. A
/// component of several modules fills a table of some dozen elements.
const STEPS_MAX: u64 = 50_000;
/// Most elements in passive segments, which no toolchain makes.
const PASSIVE_ELEMENTS_MAX: u64 = 20_000;

const PAGE_BYTES: u64 = 64 << 10;
/// Sizes of the engine's structures, as `wasmtime_environ::VMOffsets` has them for 64-bit machines, rounded up.
const MODULE_BYTES: u64 = 512;
const IMPORT_BYTES: u64 = 32;
const DEFINITION_BYTES: u64 = 32;
const FUNCTION_BYTES: u64 = 32;
const SEGMENT_BYTES: u64 = 16;
/// A lowered import or another function that the component model defines.
const CANONICAL_BYTES: u64 = 64;

/// What each instance of a component takes that nothing else counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StartCost {
    /// Memory of the engine's structures, in bytes.
    pub(super) instance_bytes: u64,
}

/// The cost of one instance of this component.
///
/// # Errors
/// When a bound is exceeded. The text says which.
pub(super) fn check(component: &[u8]) -> Result<StartCost, String> {
    let mut walk = Walk::default();
    Parser::new(0).parse_all(component).map_while(Result::ok).for_each(|payload| walk.read(payload));
    let total = walk.total();
    if total.passive > PASSIVE_ELEMENTS_MAX {
        let count = total.passive;
        return Err(format!("it has {count} elements in passive segments; at most {PASSIVE_ELEMENTS_MAX} are allowed"));
    }
    if total.copied > COPIED_BYTES_MAX {
        let why = "segments at a constant offset in a memory of their own module are free";
        let bytes = total.copied;
        return Err(format!(
            "each instance would copy {bytes} bytes of data segments; at most {COPIED_BYTES_MAX} are allowed ({why})"
        ));
    }
    if total.steps > STEPS_MAX {
        let steps = total.steps;
        return Err(format!(
            "each instance would evaluate {steps} elements and bytes of constant expressions; at most {STEPS_MAX} are allowed"
        ));
    }
    Ok(StartCost { instance_bytes: total.bytes })
}

/// The sums for one module, or for a whole component.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    bytes: u64,
    copied: u64,
    steps: u64,
    passive: u64,
}

impl Sums {
    /// Add another sum `times` times. Passive segments count once: the memory of their copies is in `bytes`.
    fn add(&mut self, other: &Self, times: u64) {
        let sum = |own: u64, other: u64| own.saturating_add(other.saturating_mul(times));
        self.bytes = sum(self.bytes, other.bytes);
        self.copied = sum(self.copied, other.copied);
        self.steps = sum(self.steps, other.steps);
        self.passive = self.passive.saturating_add(other.passive);
    }
}

/// The way through a component.
#[derive(Default)]
struct Walk {
    /// The components and the module around the present place.
    around: Vec<Encoding>,
    module: Module,
    /// The modules in the order of their ends.
    modules: Vec<Sums>,
    /// Module indices of the root's instances.
    instances: Vec<u32>,
    /// Whether modules may be instantiated anywhere but in the root, where this count is not exact.
    elsewhere: bool,
    canonicals: u64,
}

impl Walk {
    fn read(&mut self, payload: Payload<'_>) {
        let nested = self.around.len() > 1;
        match payload {
            Payload::Version { encoding, .. } => {
                self.around.push(encoding);
                self.module = Module::default();
            }
            Payload::End(_) => {
                if self.around.pop() == Some(Encoding::Module) {
                    self.modules.push(self.module.sums());
                }
            }
            Payload::ModuleSection { .. } => self.elsewhere |= nested,
            Payload::InstanceSection(section) => {
                self.elsewhere |= nested;
                self.instances.extend(section.into_iter().map_while(Result::ok).filter_map(
                    |instance| match instance {
                        Instance::Instantiate { module_index, .. } => Some(module_index),
                        Instance::FromExports(_) => None,
                    },
                ));
            }
            Payload::ComponentAliasSection(section) => {
                let is_module = |alias| matches!(alias, ComponentAlias::InstanceExport { kind, .. } if kind == wasmparser::ComponentExternalKind::Module);
                self.elsewhere |= section.into_iter().map_while(Result::ok).any(is_module);
            }
            Payload::ComponentCanonicalSection(section) => self.canonicals += u64::from(section.count()),
            payload => self.module.read(payload),
        }
    }

    fn total(&self) -> Sums {
        let mut total = Sums { bytes: self.canonicals.saturating_mul(CANONICAL_BYTES), ..Sums::default() };
        for (index, module) in self.modules.iter().enumerate() {
            let instances = self.instances.iter().filter(|instance| **instance as usize == index).count() as u64;
            let instances = if self.elsewhere { u64::from(CORE_INSTANCES_MAX) } else { instances };
            total.add(module, instances.min(u64::from(CORE_INSTANCES_MAX)));
        }
        total
    }
}

/// How segments come into their memory or table.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Placement {
    /// With the image that the engine maps.
    #[default]
    Mapped,
    /// One by one, for each instance.
    Copied,
}

/// One module.
#[derive(Default)]
struct Module {
    /// Initial sizes, in bytes and in elements; none for an imported one.
    memories: Vec<Option<u64>>,
    tables: Vec<Option<u64>>,
    functions: u64,
    /// Uses of functions as values; each takes a structure in the instance once.
    function_values: u64,
    data_bytes: u64,
    /// Bytes of the offsets of data segments.
    offset_bytes: u64,
    /// One data segment that is copied makes all others copied.
    data: Placement,
    /// The same for the elements after one that is copied.
    elements: Placement,
    sums: Sums,
}

impl Module {
    fn read(&mut self, payload: Payload<'_>) {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports().map_while(Result::ok) {
                    self.sums.bytes += IMPORT_BYTES;
                    match import.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => self.functions += 1,
                        TypeRef::Memory(_) => self.memories.push(None),
                        TypeRef::Table(_) => self.tables.push(None),
                        TypeRef::Global(_) | TypeRef::Tag(_) => {}
                    }
                }
            }
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::MemorySection(section) => {
                for memory in section.into_iter().map_while(Result::ok) {
                    self.memories.push(Some(memory.initial.saturating_mul(PAGE_BYTES)));
                    self.sums.bytes += DEFINITION_BYTES;
                }
            }
            Payload::TableSection(section) => section.into_iter().map_while(Result::ok).for_each(|t| self.table(&t)),
            Payload::GlobalSection(section) => {
                for global in section.into_iter().map_while(Result::ok) {
                    self.sums.bytes += DEFINITION_BYTES;
                    self.function_values += 1;
                    self.sums.steps += length(&global.init_expr);
                }
            }
            Payload::ExportSection(section) => {
                let exports = section.into_iter().map_while(Result::ok);
                let functions =
                    exports.filter(|export| matches!(export.kind, ExternalKind::Func | ExternalKind::FuncExact));
                self.function_values += functions.count() as u64;
            }
            Payload::ElementSection(section) => {
                section.into_iter().map_while(Result::ok).for_each(|segment| self.element_segment(&segment));
            }
            Payload::DataSection(section) => {
                section.into_iter().map_while(Result::ok).for_each(|data| self.data_segment(&data))
            }
            _ => {}
        }
    }

    fn table(&mut self, table: &wasmparser::Table<'_>) {
        self.tables.push(Some(table.ty.initial));
        self.sums.bytes += DEFINITION_BYTES;
        if let TableInit::Expr(value) = &table.init {
            self.function_values += 1;
            self.sums.steps = self.sums.steps.saturating_add(table.ty.initial).saturating_add(length(value));
        }
    }

    fn element_segment(&mut self, segment: &wasmparser::Element<'_>) {
        let (count, bytes, plain) = match &segment.items {
            ElementItems::Functions(items) => (items.count(), items.range().len(), true),
            ElementItems::Expressions(_, items) => (items.count(), items.range().len(), false),
        };
        self.function_values += u64::from(count);
        match &segment.kind {
            ElementKind::Declared => {}
            ElementKind::Passive => {
                self.sums.passive += u64::from(count);
                self.sums.steps += u64::from(count);
                self.sums.bytes += u64::from(count) * SEGMENT_BYTES;
            }
            ElementKind::Active { table_index, offset_expr } => {
                let table = self.tables.get(table_index.unwrap_or(0) as usize);
                if !plain || !fits(offset_expr, u64::from(count), table) {
                    self.elements = Placement::Copied;
                }
                if self.elements == Placement::Copied {
                    self.sums.steps += bytes as u64 + length(offset_expr);
                }
            }
        }
    }

    fn data_segment(&mut self, segment: &wasmparser::Data<'_>) {
        self.sums.bytes += SEGMENT_BYTES;
        if let DataKind::Active { memory_index, offset_expr } = &segment.kind {
            let bytes = segment.data.len() as u64;
            if !fits(offset_expr, bytes, self.memories.get(*memory_index as usize)) {
                self.data = Placement::Copied;
            }
            self.data_bytes += bytes;
            self.offset_bytes += length(offset_expr);
        }
    }

    fn sums(&self) -> Sums {
        let (copied, offsets) = match self.data {
            Placement::Mapped => (0, 0),
            Placement::Copied => (self.data_bytes, self.offset_bytes),
        };
        let functions = self.function_values.min(self.functions) * FUNCTION_BYTES;
        Sums {
            bytes: self.sums.bytes + functions + MODULE_BYTES,
            copied,
            steps: self.sums.steps.saturating_add(offsets),
            passive: self.sums.passive,
        }
    }
}

/// The length of a constant expression, in bytes.
fn length(expression: &ConstExpr<'_>) -> u64 {
    expression.get_binary_reader().bytes_remaining() as u64
}

/// Whether a segment has a constant offset and lies within a memory or table of the module's own.
fn fits(offset: &ConstExpr<'_>, count: u64, size: Option<&Option<u64>>) -> bool {
    let Some(Some(size)) = size else { return false };
    let mut operators = offset.get_operators_reader().into_iter();
    let Some(Ok(Operator::I32Const { value })) = operators.next() else { return false };
    let is_constant = matches!(operators.next(), Some(Ok(Operator::End)));
    is_constant && u64::from(value.cast_unsigned()).saturating_add(count) <= *size
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(module: &str, instances: usize) -> Vec<u8> {
        let instance = "(core instance (instantiate $m (with \"e\" (instance $e))))\n";
        let text = format!(
            "(component
                (core module $own (memory (export \"m\") 200) (table (export \"t\") 100 funcref) (global (export \"g\") i32 (i32.const 0)))
                (core instance $e (instantiate $own))
                (core module $m {module})
                {})",
            instance.repeat(instances)
        );
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn mapped_segments_are_free_and_copied_ones_count_for_each_instance() {
        let mib = "x".repeat(1 << 20);
        let mapped = format!("(memory 20) (data (i32.const 5) \"{mib}\") (data \"{mib}\")");
        assert!(check(&component(&mapped, 50)).is_ok());
        let imported = format!("(import \"e\" \"m\" (memory 1)) (data (i32.const 5) \"{mib}\")");
        assert!(check(&component(&imported, 8)).is_ok());
        let refused = check(&component(&imported, 9)).unwrap_err();
        assert!(refused.starts_with("each instance would copy 9437184 bytes of data segments"), "{refused}");
        let base = "(import \"e\" \"g\" (global i32)) (memory 20)";
        for offset in ["(global.get 0)", "(i32.add (i32.const 1) (i32.const 2))", "(i32.const 2000000)"] {
            let moved = format!("{base} (data (offset {offset}) \"{mib}\")");
            assert!(check(&component(&moved, 9)).is_err(), "{offset}");
        }
    }

    #[test]
    fn elements_and_expressions_that_are_evaluated_are_bounded() {
        let functions = "0 ".repeat(6_000);
        let own = format!("(func) (table 6000 funcref) (elem (i32.const 0) func {functions})");
        assert!(check(&component(&own, 50)).is_ok());
        let imported = format!("(import \"e\" \"t\" (table 100 funcref)) (func) (elem (i32.const 0) func {functions})");
        assert!(check(&component(&imported, 8)).is_ok());
        assert!(check(&component(&imported, 9)).unwrap_err().contains("at most 50000 are allowed"));
        let sum = format!("i32.const 1 {}", "i32.const 1 i32.add ".repeat(1_000));
        let global = format!("(global i32 {sum})");
        assert!(check(&component(&global, 10)).is_ok());
        assert!(check(&component(&global, 50)).is_err());
        let passive = format!("(func) (elem func {})", "0 ".repeat(20_001));
        let refused = check(&component(&passive, 1)).unwrap_err();
        assert_eq!(refused, "it has 20001 elements in passive segments; at most 20000 are allowed");
        // Each instance makes its own.
        let passive = format!("(func) (elem func {})", "0 ".repeat(9_000));
        assert!(check(&component(&passive, 5)).is_ok());
        assert!(check(&component(&passive, 6)).unwrap_err().contains("at most 50000 are allowed"));
    }

    #[test]
    fn structures_of_an_instance_are_counted() {
        let few = check(&component("(func (export \"f\"))", 1)).unwrap().instance_bytes;
        let functions = (0..1_000).map(|n| format!("(func (export \"{n}\"))")).collect::<String>();
        let many = check(&component(&functions, 1)).unwrap().instance_bytes;
        assert_eq!(many - few, 999 * FUNCTION_BYTES);
        let globals = "(global i64 (i64.const 0))".repeat(1_000);
        let twice = check(&component(&globals, 2)).unwrap().instance_bytes;
        assert!(twice > 2 * 1_000 * 16, "{twice}");
    }

    #[test]
    fn modules_of_nested_components_count_as_often_as_they_can_be_instantiated() {
        let kib = "x".repeat(200 << 10);
        let module = format!("(core module $m (import \"e\" \"m\" (memory 1)) (data (i32.const 5) \"{kib}\"))");
        let text = format!("(component (component {module}))");
        assert!(check(&wat::parse_str(text).unwrap()).is_err());
    }
}
