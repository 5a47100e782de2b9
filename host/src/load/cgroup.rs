//! The control group that this process is in: where its files are, whichever of the two versions there is, and whether or not the
//! process sees the whole tree. In a container it often sees its own group as the root.

use std::path::{Component, Path, PathBuf};

/// The file systems of the two versions.
const V1: &str = "cgroup";
const V2: &str = "cgroup2";

/// What the kernel says about this process.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// `/proc/self/mountinfo`.
    pub(crate) mounts: String,
    /// `/proc/self/cgroup`.
    pub(crate) groups: String,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    dir: PathBuf,
    /// The group at the root of what can be seen.
    mount: PathBuf,
}

impl Tables {
    pub(crate) fn read() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self { mounts: read("/proc/self/mountinfo"), groups: read("/proc/self/cgroup") }
    }

    /// The group of the second version.
    pub(crate) fn v2(&self) -> Option<Group> {
        self.group(V2, "")
    }

    /// The group of the first version that has this controller.
    pub(crate) fn v1(&self, controller: &str) -> Option<Group> {
        self.group(V1, controller)
    }

    fn group(&self, kind: &str, controller: &str) -> Option<Group> {
        let own = self.groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            controllers.split(',').any(|name| name == controller).then_some(path)
        })?;
        let (root, mount) = self.mounts.lines().find_map(|line| mount(line, kind, controller))?;
        // Without a namespace, a container has the path of the host, and sees only what is below its own root.
        let below = Path::new(own).strip_prefix(root).or_else(|_| Path::new(own).strip_prefix("/")).ok()?;
        let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        let dir = Some(mount.join(below)).filter(|dir| plain && dir.is_dir());
        Some(Group { dir: dir.unwrap_or_else(|| mount.to_owned()), mount: mount.to_owned() })
    }
}

/// The root and the place of a mount, where it is one of these: `ID PARENT DEVICE ROOT PLACE OPTIONS... - KIND SOURCE OPTIONS`.
fn mount<'a>(line: &'a str, kind: &str, controller: &str) -> Option<(&'a str, &'a Path)> {
    let (place, what) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, path) = (place.next()?, place.next()?);
    let mut what = what.split(' ');
    let (found, options) = (what.next()?, what.nth(1)?);
    let has_controller = controller.is_empty() || options.split(',').any(|option| option == controller);
    (found == kind && has_controller).then_some((root, Path::new(path)))
}

impl Group {
    /// One of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What is read of it and of each group above it that can be seen.
    pub(crate) fn and_above<T>(&self, read: impl Fn(&Path) -> Option<T>) -> impl Iterator<Item = T> {
        self.dir.ancestors().take_while(|dir| dir.starts_with(&self.mount)).filter_map(read)
    }
}

/// A tree for tests.
#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// Where the files are, and what the kernel says of them.
    pub(crate) struct Tree {
        pub(crate) dir: tempfile::TempDir,
        pub(crate) tables: Tables,
    }

    impl Tree {
        /// `root` is what of the hierarchy is mounted, `own` the path of the process in it.
        pub(crate) fn new(kind: &str, controllers: &str, root: &str, own: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let place = dir.path().display();
            let mounts = format!(
                "22 1 8:1 / / rw - ext4 /dev/sda rw\n31 22 0:28 {root} {place} rw,relatime shared:9 - {kind} {kind} rw,{controllers}\n"
            );
            let number = if kind == V2 { 0 } else { 4 };
            let groups = format!("7:name=other:/elsewhere\n{number}:{controllers}:{own}\n");
            Self { dir, tables: Tables { mounts, groups } }
        }

        pub(crate) fn write(&self, file: &str, text: &str) {
            let path = self.dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_own_group_is_found_from_outside_and_from_inside_a_container() {
        let outside = Tree::new(V2, "", "/", "/system.slice/worker.service");
        outside.write("system.slice/worker.service/cpu.max", "max 100000");
        let group = outside.tables.v2().unwrap();
        assert_eq!(group.file("x"), outside.dir.path().join("system.slice/worker.service/x"));
        assert_eq!(group.and_above(|dir| Some(dir.to_owned())).count(), 3);

        // With a namespace of its own, and without one.
        for (root, own) in [("/", "/"), ("/docker/abc", "/docker/abc"), ("/../../x", "/"), ("/docker/abc", "/../def")] {
            let inside = Tree::new(V1, "cpu,cpuacct", root, own);
            let group = inside.tables.v1("cpuacct").unwrap();
            assert_eq!(group.file("x"), inside.dir.path().join("x"), "{root} {own}");
            assert_eq!(inside.tables.v1("memory"), None);
            assert_eq!(inside.tables.v2(), None);
        }
        assert_eq!(Tables { mounts: "garbage - ".into(), groups: "0::/".into() }.v2(), None);
    }
}
