//! The cgroup of this process: the paths of its files, for both versions of cgroups. A container often sees its own cgroup as the
//! root of the tree.

use std::path::{Component, Path, PathBuf};

/// The file system types of the two versions.
const V1: &str = "cgroup";
const V2: &str = "cgroup2";

/// The kernel's tables about this process.
#[derive(Debug, Default)]
pub(crate) struct KernelTables {
    /// `/proc/self/mountinfo`.
    pub(crate) mounts: String,
    /// `/proc/self/cgroup`.
    pub(crate) groups: String,
}

/// One cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    dir: PathBuf,
    /// The root of the visible tree.
    mount: PathBuf,
}

impl KernelTables {
    pub(crate) fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self { mounts: read("/proc/self/mountinfo"), groups: read("/proc/self/cgroup") }
    }

    /// The cgroup of version 2.
    pub(crate) fn v2(&self) -> Option<Cgroup> {
        self.group(V2, "")
    }

    /// The cgroup of version 1 that has this controller.
    pub(crate) fn v1(&self, controller: &str) -> Option<Cgroup> {
        self.group(V1, controller)
    }

    fn group(&self, kind: &str, controller: &str) -> Option<Cgroup> {
        let own = self.groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            controllers.split(',').any(|name| name == controller).then_some(path)
        })?;
        let (root, mount) = self.mounts.lines().find_map(|line| mount(line, kind, controller))?;
        // Without a namespace of its own, a container has the path of the host, and sees the tree below its own root only.
        let below = Path::new(own).strip_prefix(root).or_else(|_| Path::new(own).strip_prefix("/")).ok()?;
        let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        let dir = Some(mount.join(below)).filter(|dir| plain && dir.is_dir());
        Some(Cgroup { dir: dir.unwrap_or_else(|| mount.to_owned()), mount: mount.to_owned() })
    }
}

/// The root and the path of a mount of this type. A line is `ID PARENT DEVICE ROOT PATH OPTIONS... - TYPE SOURCE OPTIONS`.
fn mount<'a>(line: &'a str, kind: &str, controller: &str) -> Option<(&'a str, &'a Path)> {
    let (mounted, file_system) = line.split_once(" - ")?;
    let mut mounted = mounted.split(' ').skip(3);
    let (root, path) = (mounted.next()?, mounted.next()?);
    let mut file_system = file_system.split(' ');
    let (found, options) = (file_system.next()?, file_system.nth(1)?);
    let has_controller = controller.is_empty() || options.split(',').any(|option| option == controller);
    (found == kind && has_controller).then_some((root, Path::new(path)))
}

impl Cgroup {
    /// The path of one of the cgroup's files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Read a value of the cgroup, and of each visible cgroup above it.
    pub(crate) fn and_above<T>(&self, read: impl Fn(&Path) -> Option<T>) -> impl Iterator<Item = T> {
        self.dir.ancestors().take_while(|dir| dir.starts_with(&self.mount)).filter_map(read)
    }
}

/// Trees of cgroups for tests.
#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// The files of a tree, and the kernel's tables about it.
    pub(crate) struct Tree {
        pub(crate) dir: tempfile::TempDir,
        pub(crate) tables: KernelTables,
    }

    impl Tree {
        /// `root` is the mounted part of the hierarchy, `own` the path of the process in it.
        pub(crate) fn new(kind: &str, controllers: &str, root: &str, own: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let place = dir.path().display();
            let mounts = format!(
                "22 1 8:1 / / rw - ext4 /dev/sda rw\n31 22 0:28 {root} {place} rw,relatime shared:9 - {kind} {kind} rw,{controllers}\n"
            );
            let number = if kind == V2 { 0 } else { 4 };
            let groups = format!("7:name=other:/elsewhere\n{number}:{controllers}:{own}\n");
            Self { dir, tables: KernelTables { mounts, groups } }
        }

        pub(crate) fn write(&self, file: &str, text: &str) {
            let path = self.dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_cgroup_is_found_on_a_host_and_in_a_container() {
        let outside = Tree::new(V2, "", "/", "/system.slice/worker.service");
        outside.write("system.slice/worker.service/cpu.max", "max 100000");
        let group = outside.tables.v2().unwrap();
        assert_eq!(group.file("x"), outside.dir.path().join("system.slice/worker.service/x"));
        assert_eq!(group.and_above(|dir| Some(dir.to_owned())).count(), 3);

        // A container with a namespace of its own, and one without.
        for (root, own) in [("/", "/"), ("/docker/abc", "/docker/abc"), ("/../../x", "/"), ("/docker/abc", "/../def")] {
            let inside = Tree::new(V1, "cpu,cpuacct", root, own);
            let group = inside.tables.v1("cpuacct").unwrap();
            assert_eq!(group.file("x"), inside.dir.path().join("x"), "{root} {own}");
            assert_eq!(inside.tables.v1("memory"), None);
            assert_eq!(inside.tables.v2(), None);
        }
        assert_eq!(KernelTables { mounts: "garbage - ".into(), groups: "0::/".into() }.v2(), None);
    }
}
